"""What a student of a group learns from: the group's objective, with its peers by name."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from limbeck.dials import product
from limbeck.objective import Objective, Sum, flatten
from limbeck.signals import Signals

PEERS = "peers"


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

    A term that reads from the peers becomes a term for each source, their mean in all. With one
    source its parts are named without it, unless another term has that name.

    >>> from limbeck import Match, losses, truth
    >>> taught_by(truth() + Match(losses.kl, source="peers"), ["b", "c"]).parts()
    ['truth', 'kl:b', 'kl:c']
    >>> taught_by(truth() + Match(losses.kl, source="peers"), ["b"]).parts()
    ['truth', 'kl']
    """
    terms, flat = [], flatten(1.0, objective)
    taken = {part for _, term in flat if not of_peers(term) for part in term.parts()}
    for weight, term in flat:
        if not of_peers(term):
            terms.append((weight, copy.deepcopy(term)))
            continue
        short = {part.removesuffix(f":{PEERS}") for part in term.parts()}
        for source in sources:
            only = f":{PEERS}" if short & taken else ""
            suffix = f":{source}" if len(sources) > 1 else only
            term_of = Taught(copy.deepcopy(term), source, suffix)
            terms.append((product(1 / len(sources), weight), term_of))
    return Sum(terms)


def of_peers(term: Objective) -> bool:
    return PEERS in {source for source, _ in term.needs()}
