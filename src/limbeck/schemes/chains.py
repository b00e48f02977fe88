"""Chains: networks that are trained one after another, each taught by those before it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from limbeck.errors import LimbeckError

TEACHER, STUDENT = "teacher", "student"
Model = TypeVar("Model")


@dataclass(frozen=True)
class Stage(Generic[Model]):
    """One training of a chain.

    Attributes:
        name: of the stage, by which later ones know it as a teacher.
        model: what is trained.
        teachers: `"teacher"` or names of earlier stages, all of which teach; none where labels do.
    """

    name: str
    model: Model
    teachers: tuple[str, ...]


def generations(student: Model, count: int, *, teacher: bool = False) -> list[Stage[Model]]:
    """Born-again networks: after generation 0, each of `count` more learns from the one before.

    Generation 0 learns from labels, or from a teacher. All are of one architecture; a fresh seed
    for each is for whoever trains them.

    Raises:
        LimbeckError: no generation.

    Example:
        >>> for stage in generations("resnet20", 2):
        ...     print(stage.name, stage.teachers)
        generation-0 ()
        generation-1 ('generation-0',)
        generation-2 ('generation-1',)

    Source: Furlanello et al., Born-Again Neural Networks, ICML 2018 (arXiv 1805.04770).
    """
    if count < 1:
        raise LimbeckError(f"generations must be at least 1, got {count}")
    names = [f"generation-{n}" for n in range(count + 1)]
    before = [(TEACHER,) if teacher else (), *((name,) for name in names)]
    return [Stage(name, student, who) for name, who in zip(names, before, strict=False)]


def assistants(
    models: Sequence[Model], student: Model, *, dense: bool = False
) -> list[Stage[Model]]:
    """Teacher assistants: networks between teacher and student, the largest first.

    Each learns from the one before; with `dense` from all before it, the teacher included.

    Raises:
        LimbeckError: no assistant.

    Example:
        >>> for stage in assistants(["resnet32", "resnet14"], "resnet8", dense=True):
        ...     print(stage.name, stage.teachers)
        assistant-1 ('teacher',)
        assistant-2 ('teacher', 'assistant-1')
        student ('teacher', 'assistant-1', 'assistant-2')

    Source: Mirzadeh et al., Improved Knowledge Distillation via Teacher Assistant, AAAI 2020
    (arXiv 1902.03393); dense: Son et al., Densely Guided Knowledge Distillation using Multiple
    Teacher Assistants, ICCV 2021 (arXiv 2009.08825).
    """
    if not models:
        raise LimbeckError("a chain of assistants needs at least one")
    names = [TEACHER, *(f"assistant-{n}" for n in range(1, len(models) + 1)), STUDENT]
    return [
        Stage(names[n], model, tuple(names[:n] if dense else names[n - 1 : n]))
        for n, model in enumerate([*models, student], start=1)
    ]
