"""Several teachers of the same terms, some of which may be silent in a step."""

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limbeck.dials import Dial, product
from limbeck.errors import LimbeckError
from limbeck.objective import Objective, Sum, flatten
from limbeck.schemes.chains import TEACHER
from limbeck.schemes.taught import Taught
from limbeck.signals import Signals


class Turns(Dial):
    """Who of `count` teachers is heard in a step, each but with chance `drop`; one at least.

    A function of the seed and the number of the step alone, so that all ranks and all pieces of a
    step hear the same, and a resumed training goes on with the same. Those that are heard share
    what all would have weighed. Before the first step all are heard.

    >>> turns = Turns(3, drop=0.5, seed=0)
    >>> for _ in range(4):
    ...     turns.advance(0.0)
    ...     print([turns.factor(k) for k in range(3)])
    [1.0, 1.0, 1.0]
    [0.0, 0.0, 3.0]
    [1.5, 0.0, 1.5]
    [0.0, 1.5, 1.5]
    """

    def __init__(self, count: int, drop: float, seed: int) -> None:
        super().__init__(1.0)
        self.count, self.drop, self.seed, self.step = count, drop, seed, 0
        self.advanced = False

    def advance(self, progress: float) -> None:
        self.step += 1
        self.advanced = True

    def heard(self) -> list[int]:
        """The places of this step's teachers."""
        if not self.step:
            return list(range(self.count))
        draws = random.Random(f"{self.seed}, {self.step}")
        stay = [k for k in range(self.count) if draws.random() >= self.drop]
        return stay or [draws.randrange(self.count)]

    def factor(self, k: int) -> float:
        """What the weight of teacher `k` is multiplied by."""
        heard = self.heard()
        return self.count / len(heard) if k in heard else 0.0

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.step)

    def set_extra_state(self, state: Tensor) -> None:
        self.step = int(state)


class Heard(Taught):
    """A term of teacher `k`, silent where it is not this one's turn."""

    def __init__(self, term: Objective, source: str, suffix: str, turns: Turns, k: int) -> None:
        super().__init__(term, source, suffix, whose=TEACHER)
        self.turns, self.k = turns, k

    def silent(self) -> bool:
        return self.turns.factor(self.k) == 0

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        factor = self.turns.factor(self.k)
        if factor == 0:
            return dict.fromkeys(self.parts(), self.nothing(signals))
        return {name: factor * value for name, value in super().forward(signals).items()}

    def nothing(self, signals: Signals) -> Tensor:
        """0, with a gradient of 0 at what the term trains, which all ranks then exchange."""
        own = [parameter.sum() for parameter in self.parameters() if parameter.requires_grad]
        if own:
            return 0.0 * torch.stack(own).sum()
        student = next(name for whose, name in self.needs() if whose == "student")
        return signals.of("student", student).new_zeros(())


def dense(
    made: Callable[[str], Objective], teachers: Sequence[str], *, drop: float = 0.0, seed: int = 0
) -> Sum:
    """An objective of one teacher as that of several: each term of the teacher K times, at 1/K.

    L = L_labels + (1/K) sum_k L_k, or with `drop` the mean over the teachers that a step hears.

    Args:
        made: called with each name, returns the objective as if that teacher were `"teacher"`.
            What does not read the teacher, such as the truth, is taken of the first.
        teachers: names of K sources.
        drop: chance of each teacher to be left out of a step, in [0, 1); one is always heard.
            Frozen teachers that are left out are not asked.
        seed: of the draws.

    Raises:
        LimbeckError: no teacher, a chance outside of [0, 1).

    Example:
        >>> from limbeck import Match, losses, truth
        >>> dense(lambda name: truth() + Match(losses.kl), ["teacher", "assistant-1"]).parts()
        ['truth', 'kl:teacher', 'kl:assistant-1']

    Source: Son et al., Densely Guided Knowledge Distillation using Multiple Teacher Assistants,
    ICCV 2021 (arXiv 2009.08825).
    """
    if not teachers:
        raise LimbeckError("a dense objective needs at least one teacher")
    if not 0 <= drop < 1:
        raise LimbeckError(f"drop must be in [0, 1), got {drop}")
    turns, terms = Turns(len(teachers), drop, seed), []
    for k, name in enumerate(teachers):
        for weight, term in flatten(1.0, made(name)):
            if TEACHER in {source for source, _ in term.needs()}:
                suffix = f":{name}" if len(teachers) > 1 else ""
                share = product(1 / len(teachers), weight)
                terms.append((share, heard(term, name, suffix, turns, k)))
            elif k == 0:
                terms.append((weight, term))
    return Sum(terms)


def heard(term: Objective, source: str, suffix: str, turns: Turns, k: int) -> Taught:
    """A teacher's term, which follows the turns where any teacher is ever left out."""
    if turns.drop == 0:
        return Taught(term, source, suffix, whose=TEACHER)
    return Heard(term, source, suffix, turns, k)
