"""What a student of a group learns from: the group's objective, with its peers by name."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from limbeck.dials import product
from limbeck.errors import LimbeckError
from limbeck.objective import Objective, Sum, flatten
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

PEERS = "peers"


class Peer(Source):
    """What other students said of this batch; the group fills it in before it scores."""

    def __init__(self, readers: Mapping[str, Reader]) -> None:
        self.readers = readers
        self.said: Mapping[str, Tensor] = {}

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return {want: self.said[want] for want in wants}

    def check(self, wants: Sequence[str]) -> None:
        for name, reader in self.readers.items():
            try:
                reader.attach(wants)
            except LimbeckError as error:
                raise LimbeckError(
                    f"as a peer, {name!r}: {error}; names that differ between students become one "
                    "by Reader(model, names=...)"
                ) from error


@contextmanager
def telling(said: Iterable[tuple[Peer, Mapping[str, Tensor]]]) -> Iterator[None]:
    """The peers answer with what was said, for the time being; nothing is kept."""
    filled = list(said)
    for peer, answer in filled:
        peer.said = answer
    try:
        yield
    finally:
        for peer, _ in filled:
            peer.said = {}


class Taught(Objective):
    """A term whose source `whose` is another source; its parts end with `suffix` instead."""

    def __init__(self, term: Objective, source: str, suffix: str, whose: str = PEERS) -> None:
        super().__init__()
        self.term, self.source, self.suffix, self.whose = term, source, suffix, whose

    def needs(self) -> list[tuple[str, str]]:
        return [(self.source if s == self.whose else s, name) for s, name in self.term.needs()]

    def parts(self) -> list[str]:
        return [self.rename(name) for name in self.term.parts()]

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        parts = self.term.forward(self.addressed(signals))
        return {self.rename(name): value for name, value in parts.items()}

    def prepare(self, signals: Signals) -> None:
        self.term.prepare(self.addressed(signals))

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        return {self.rename(name): n for name, n in self.term.items(data).items()}

    def addressed(self, signals: Signals) -> Signals:
        return Signals({**signals, self.whose: signals[self.source]})

    def rename(self, name: str) -> str:
        return name.removesuffix(f":{self.whose}") + self.suffix


def taught_by(objective: Objective, sources: Sequence[str]) -> Sum:
    """A copy of an objective whose `"peers"` are `sources`, one after another.

    A term that reads from the peers becomes a term for each source, their mean in all.

    >>> from limbeck import Match, losses, truth
    >>> taught_by(truth() + Match(losses.kl, source="peers"), ["b", "c"]).parts()
    ['truth', 'kl:b', 'kl:c']
    >>> taught_by(truth() + Match(losses.kl, source="peers"), ["b"]).parts()
    ['truth', 'kl']
    """
    terms = []
    for weight, term in flatten(1.0, objective):
        if PEERS not in {source for source, _ in term.needs()}:
            terms.append((weight, copy.deepcopy(term)))
            continue
        for source in sources:
            suffix = f":{source}" if len(sources) > 1 else ""
            term_of = Taught(copy.deepcopy(term), source, suffix)
            terms.append((product(1 / len(sources), weight), term_of))
    return Sum(terms)
