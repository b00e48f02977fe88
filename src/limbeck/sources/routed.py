"""Each sample to the teacher that knows it."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.data import told, within
from limbeck.sources.several import Several
from limbeck.sources.source import Source


class Routed(Several):
    """Teachers of a domain each; the data's `domain` says whose a sample is.

    `domain` (B,) holds places in the order of `sources`, from 0. A teacher sees its own rows of the
    inputs and of the data (a tensor or a list of B is divided, anything else given to all), and the
    answers come back in the order of the batch. A batch of one domain is passed on as it is.

    Args:
        sources: the teachers by the names of their domains; plain modules are `Frozen`.

    Raises:
        LimbeckError: no source, one that must see the student's signals, a domain that does not
            exist, answers of different shapes.

    Example:
        >>> routed = Routed({"day": nn.Linear(4, 3), "night": nn.Linear(4, 3)})
        >>> batch = Batch(torch.randn(5, 4), {"domain": torch.tensor([0, 1, 1, 0, 1])})
        >>> routed(batch, Signals(), ["output"])["output"].shape
        torch.Size([5, 3])
    """

    def __init__(self, sources: Mapping[str, nn.Module | Reader | Source]) -> None:
        super().__init__(list(sources.values()), "a route")
        self.names = list(sources)
        for name, source in zip(self.names, self.sources, strict=True):
            if not source.early:
                raise LimbeckError(
                    f"{name!r} must be a source that runs before the student, such as Frozen, "
                    f"got {type(source).__name__}"
                )

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        (domain,) = told(batch, ["domain"], "a route")
        places = within("domain", domain, len(self.sources))
        taken = [int(place) for place in places.unique()]
        if len(taken) == 1:
            return self.sources[taken[0]](batch, signals, wants)
        rows = [(places == place).nonzero().flatten().to(domain.device) for place in taken]
        answers = [
            self.ask(place, batch, own, wants) for place, own in zip(taken, rows, strict=True)
        ]
        order = torch.cat(rows).argsort()
        return {want: self.joined(want, taken, answers)[order] for want in wants}

    def ask(
        self, place: int, batch: Batch, rows: Tensor, wants: Sequence[str]
    ) -> Mapping[str, Any]:
        """What a teacher says of its own rows of the batch."""
        size = len(batch.data["domain"])
        data = {name: chosen(value, rows, size) for name, value in batch.data.items()}
        own = Batch(chosen(batch.inputs, rows, size), data)
        answer = self.sources[place](own, Signals(data=data), wants)
        for want in wants:
            if len(answer[want]) != len(rows):
                raise LimbeckError(
                    f"{self.names[place]!r} must answer {want!r} with a row for each of its "
                    f"{len(rows)} samples, got {tuple(answer[want].shape)}"
                )
        return answer

    def joined(
        self, want: str, taken: Sequence[int], answers: Sequence[Mapping[str, Tensor]]
    ) -> Tensor:
        """One signal of all teachers, one teacher after the other."""
        parts = [answer[want] for answer in answers]
        shapes = [tuple(part.shape[1:]) for part in parts]
        if len(set(shapes)) > 1:
            names = [self.names[place] for place in taken]
            raise LimbeckError(f"{names} must answer {want!r} in one shape, got {shapes}")
        return torch.cat(parts)


def chosen(value: Any, rows: Tensor, size: int) -> Any:
    """These rows of whatever has a row for each of the batch's `size` samples.

    >>> chosen({"x": torch.arange(3), "scale": 2.0}, torch.tensor([2, 0]), 3)
    {'x': tensor([2, 0]), 'scale': 2.0}
    """
    if isinstance(value, Tensor):
        return value[rows.to(value.device)] if value.ndim and len(value) == size else value
    if isinstance(value, Mapping):
        return {name: chosen(own, rows, size) for name, own in value.items()}
    if isinstance(value, list) and len(value) == size:
        return [value[row] for row in rows.tolist()]
    if isinstance(value, tuple):
        values = [chosen(own, rows, size) for own in value]
        return type(value)(*values) if hasattr(value, "_fields") else tuple(values)
    return value
