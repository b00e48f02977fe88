"""Classes of two models that are not the same, made to agree or refused."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from limbeck.errors import LimbeckError, close


@dataclass(frozen=True)
class ClassMap:
    """Teacher logits (..., teacher classes) in the student's classes (..., student classes).

    A subset, a permutation, or merged classes: the probability of a merged class is the sum of its
    teacher classes' probabilities, renormalised over the classes that are kept (their logits meet
    in log-sum-exp). `groups[k]` are the teacher's indices for the student's class k.

    Raises:
        LimbeckError: a student class without a teacher class, or a teacher class used twice.

    Example:
        >>> two = ClassMap(((2,), (0, 1)))(torch.tensor([[0.2, 0.3, 0.5]]).log())
        >>> two.softmax(-1)
        tensor([[0.5000, 0.5000]])
    """

    groups: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        empty = [k for k, group in enumerate(self.groups) if not group]
        if empty or not self.groups:
            where = f"student class {empty[0]} has none" if empty else "there is no student class"
            raise LimbeckError(f"class_map must give each student class a teacher class, {where}")
        used = Counter(chain.from_iterable(self.groups))
        if min(used) < 0:
            raise LimbeckError(f"class_map must count teacher classes from 0, got {min(used)}")
        twice = [index for index, times in used.items() if times > 1]
        if twice:
            raise LimbeckError(
                f"class_map must use each teacher class once, class {twice[0]} is used twice"
            )

    @classmethod
    def from_indices(cls, groups: Sequence[int | Sequence[int]]) -> "ClassMap":
        """From the teacher's index, or indices, for each student class in order.

        >>> ClassMap.from_indices([3, [0, 2]]).groups
        ((3,), (0, 2))
        """
        return cls(tuple((g,) if isinstance(g, int) else tuple(g) for g in groups))

    @classmethod
    def from_names(
        cls,
        names: Mapping[str, str | Sequence[str]],
        theirs: Sequence[str],
        ours: Sequence[str],
    ) -> "ClassMap":
        """From student class -> teacher class or classes.

        >>> names = {"cat": ["siamese", "tabby"], "dog": "beagle"}
        >>> ClassMap.from_names(names, ["beagle", "siamese", "tabby"], ["cat", "dog"])
        ClassMap(groups=((1, 2), (0,)))
        """
        unknown = [name for name in names if name not in ours]
        if unknown:
            raise LimbeckError(
                f"class_map names {unknown[0]!r}, which the data does not have"
                f"{close(unknown[0], ours)}"
            )
        without = [name for name in ours if not names.get(name)]
        if without:
            raise LimbeckError(f"class_map must name a teacher class for each of {without}")
        return cls(tuple(indices(names[name], theirs) for name in ours))

    def __call__(self, logits: Tensor) -> Tensor:
        self.check(logits.shape[-1])
        if all(len(group) == 1 for group in self.groups):
            index = torch.tensor([group[0] for group in self.groups], device=logits.device)
            return logits.index_select(-1, index)
        merged = [torch.logsumexp(logits[..., list(group)], -1) for group in self.groups]
        return torch.stack(merged, -1)

    def check(self, count: int) -> None:
        """Raises LimbeckError unless a teacher with `count` classes has all that are named."""
        last = max(chain.from_iterable(self.groups))
        if last >= count:
            raise LimbeckError(f"class_map names teacher class {last}, but there are {count}")


def indices(names: str | Sequence[str], theirs: Sequence[str]) -> tuple[int, ...]:
    """Where a teacher's classes stand."""
    group = [names] if isinstance(names, str) else list(names)
    for name in group:
        if name not in theirs:
            raise LimbeckError(
                f"class_map names {name!r}, which the teacher does not have{close(name, theirs)}"
            )
        if theirs.count(name) > 1:
            raise LimbeckError(
                f"class_map names {name!r}, which the teacher has {theirs.count(name)} times; "
                "map indices instead: ClassMap.from_indices"
            )
    return tuple(theirs.index(name) for name in group)


def check_classes(
    model_classes: Sequence[str] | int,
    data_classes: Sequence[str],
    class_map: ClassMap | None = None,
) -> None:
    """Raises LimbeckError unless a model's classes are the data's, or are mapped to them.

    Args:
        model_classes: their names in the order of the outputs, or how many there are.
        data_classes: the names of the data's classes.
        class_map: what turns the one into the other.
    """
    count = model_classes if isinstance(model_classes, int) else len(model_classes)
    if class_map is not None:
        class_map.check(count)
        count = len(class_map.groups)
    if count != len(data_classes):
        mapped = "its class_map gives" if class_map is not None else "the teacher has"
        raise LimbeckError(
            f"{mapped} {count} classes and the data has {len(data_classes)}; give a class_map "
            "(and the teacher's classes), or fit its head"
        )
    if class_map is None and not isinstance(model_classes, int):
        check_order(model_classes, data_classes)


def check_order(theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Raises LimbeckError with the first class that is not the same."""
    for k, (a, b) in enumerate(zip(theirs, ours, strict=True)):
        if a != b:
            raise LimbeckError(
                f"the teacher's class {k} is {a!r} and the data's is {b!r}; give a class_map"
            )
