"""Classes of two models that are not the same, made to agree or refused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.errors import LimbeckError, close


def check_classes(theirs: Sequence[str] | int, ours: Sequence[str]) -> None:
    """Raises LimbeckError unless a teacher's classes are the data's, in the same order."""
    count = theirs if isinstance(theirs, int) else len(theirs)
    if count != len(ours):
        raise LimbeckError(
            f"the teacher has {count} classes and the data has {len(ours)}; give teacher.class_map "
            "(and teacher.classes), or fit its head"
        )
    if not isinstance(theirs, int) and list(theirs) != list(ours):
        k = next(k for k, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b)
        raise LimbeckError(
            f"the teacher's class {k} is {theirs[k]!r} and the data's is {ours[k]!r}; "
            "give teacher.class_map"
        )


@dataclass(frozen=True)
class ClassMap:
    """Teacher logits in the student's classes: a subset, a permutation, or merged classes.

    The probability of a merged class is the sum of its teacher classes' probabilities (their logits
    meet in log-sum-exp). `groups[k]` are the teacher's indices for the student's class k.

    >>> two = ClassMap(((2,), (0, 1)))(torch.tensor([[0.2, 0.3, 0.5]]).log())
    >>> two.softmax(-1)
    tensor([[0.5000, 0.5000]])
    """

    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def from_names(
        cls,
        names: Mapping[str, str | Sequence[str]],
        theirs: Sequence[str],
        ours: Sequence[str],
    ) -> "ClassMap":
        """From student class -> teacher class or classes."""
        unknown = [name for name in names if name not in ours]
        if unknown:
            raise LimbeckError(
                f"class_map names {unknown[0]!r}, which the data does not have"
                f"{close(unknown[0], ours)}"
            )
        without = [name for name in ours if name not in names]
        if without:
            raise LimbeckError(f"class_map must name a teacher class for each of {without}")
        index = {name: k for k, name in enumerate(theirs)}
        return cls(tuple(indices(names[name], index) for name in ours))

    def __call__(self, logits: Tensor) -> Tensor:
        if all(len(group) == 1 for group in self.groups):
            return logits[..., [group[0] for group in self.groups]]
        merged = [torch.logsumexp(logits[..., list(group)], -1) for group in self.groups]
        return torch.stack(merged, -1)


def indices(names: str | Sequence[str], index: Mapping[str, int]) -> tuple[int, ...]:
    group = [names] if isinstance(names, str) else list(names)
    for name in group:
        if name not in index:
            raise LimbeckError(
                f"class_map names {name!r}, which the teacher does not have{close(name, index)}"
            )
    return tuple(index[name] for name in group)
