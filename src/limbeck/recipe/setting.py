"""What an objective is made for: its task, and what methods ask of the teacher and the data."""

from dataclasses import dataclass

from torch import nn

from limbeck.errors import LimbeckError, close
from limbeck.taps import modules_of
from limbeck.tasks import CLASSIFICATION, Task

MOST_PATHS = 6


@dataclass(frozen=True)
class Place:
    """The path of a module of the teacher, of a kind, for the keyword `key` of a method."""

    key: str
    path: str
    kind: type[nn.Module]


@dataclass(frozen=True)
class Setting:
    """What an objective is made for; without a teacher, modules that stand in for its own.

    Args:
        task: gives the labels their loss.
        teacher: whose modules methods take.
        samples: how many training images there are.
        exits: how many exits the student has beside its own.
        branches: how many branches it has.
    """

    task: Task = CLASSIFICATION
    teacher: nn.Module | None = None
    samples: int = 2
    exits: int = 1
    branches: int = 2

    def module(self, place: Place) -> nn.Module:
        """The teacher's module at a place.

        Raises:
            LimbeckError: no such module, or one of another kind.
        """
        if self.teacher is None:
            return stand_in(place.kind)
        modules = modules_of(self.teacher)
        right = [path for path, found in modules.items() if isinstance(found, place.kind) and path]
        if place.path in right:
            return modules[place.path]
        raise LimbeckError(
            f"{place.key} must be the path of a {place.kind.__name__} of the teacher, got "
            f"{place.path!r}{kind_at(place.path, modules)}"
            f"{close(place.path, right) or f'; there are {right[:MOST_PATHS]}'}"
        )


def stand_in(kind: type[nn.Module]) -> nn.Module:
    """A module of a kind that has nothing to say, to make an objective with before its teacher."""
    return next(found for found in (nn.Identity(), nn.BatchNorm2d(1)) if isinstance(found, kind))


def kind_at(path: str, modules: dict[str, nn.Module]) -> str:
    return f", a {type(modules[path]).__name__}" if path in modules else ""
