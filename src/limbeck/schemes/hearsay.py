"""Sources that a group fills in before its students score: what others said, asked for once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources import Source


class Hearsay(Source):
    """What somebody else said of this batch."""

    def __init__(self) -> None:
        self.said: Mapping[str, Tensor] = {}

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return {want: self.said[want] for want in wants}


class Peer(Hearsay):
    """What other students said."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        super().__init__()
        self.readers = readers

    def check(self, wants: Sequence[str]) -> None:
        for name, reader in self.readers.items():
            try:
                reader.attach(wants)
            except LimbeckError as error:
                raise LimbeckError(
                    f"as a peer, {name!r}: {error}; names that differ between students become one "
                    "by Reader(model, names=...)"
                ) from error


class Told(Hearsay):
    """What a source said that all students share, as each of them has it."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source, self.moves = source, source.moves

    def check(self, wants: Sequence[str]) -> None:
        self.source.check(wants)

    def modules(self) -> list[nn.Module]:
        return self.source.modules()

    def to(self, device: torch.device) -> None:
        self.source.to(device)


@contextmanager
def telling(said: Iterable[tuple[Hearsay, Mapping[str, Tensor]]]) -> Iterator[None]:
    """Those sources answer with what was said, for the time being; nothing is kept."""
    filled = list(said)
    for source, answer in filled:
        source.said = answer
    try:
        yield
    finally:
        for source, _ in filled:
            source.said = {}
