"""What sources that are made of sources have in common."""

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.sources.frozen import as_source
from limbeck.sources.source import Source


class Several(Source):
    """Holds sources in order; whatever they are told or must keep, they are told and keep."""

    def __init__(self, sources: Sequence[nn.Module | Reader | Source], who: str) -> None:
        if not sources:
            raise LimbeckError(f"{who} needs at least one source")
        self.sources = [as_source(f"sources[{k}]", source) for k, source in enumerate(sources)]
        self.early = all(source.early for source in self.sources)
        self.moves = any(source.moves for source in self.sources)

    def check(self, wants: Sequence[str]) -> None:
        for source in self.sources:
            source.check(wants)

    def reads(self, wants: Sequence[str]) -> list[str]:
        return [name for source in self.sources for name in source.reads(wants)]

    def advance(self, progress: float) -> None:
        for source in self.sources:
            source.advance(progress)

    def modules(self) -> list[nn.Module]:
        return [module for source in self.sources for module in source.modules()]

    def state_dict(self) -> dict[str, Tensor]:
        return {
            f"{k}.{name}": value
            for k, source in enumerate(self.sources)
            for name, value in source.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for k, source in enumerate(self.sources):
            own = {n.removeprefix(f"{k}."): v for n, v in state.items() if n.startswith(f"{k}.")}
            source.load_state_dict(own)


def inside(source: Source) -> Iterator[Source]:
    """A source and all that it is made of."""
    yield source
    if isinstance(source, Several):
        for each in source.sources:
            yield from inside(each)
