"""Schedules: numbers that follow training progress, from 0 at the start to 1 at the end."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@runtime_checkable
class Schedule(Protocol):
    """A function of progress in [0, 1]."""

    def __call__(self, progress: float) -> float: ...


@dataclass(frozen=True)
class Linear:
    """From `start` to `stop`, in a straight line until `until`, constant after.

    >>> Linear(0, 2, until=0.5)(0.25)
    1.0
    """

    start: float
    stop: float
    until: float = 1.0

    def __post_init__(self) -> None:
        check_until(self.until)

    def __call__(self, progress: float) -> float:
        return self.start + (self.stop - self.start) * min(progress / self.until, 1.0)


@dataclass(frozen=True)
class Cosine:
    """From `start` to `stop` along half a cosine until `until`, constant after.

    >>> round(Cosine(4, 1)(0.5), 6)
    2.5
    """

    start: float
    stop: float
    until: float = 1.0

    def __post_init__(self) -> None:
        check_until(self.until)

    def __call__(self, progress: float) -> float:
        fraction = (1 - math.cos(math.pi * min(progress / self.until, 1.0))) / 2
        return self.start + (self.stop - self.start) * fraction


@dataclass(frozen=True)
class Steps:
    """`values[k]` once progress has passed k of the `bounds`.

    >>> [Steps((0.5,), (1.0, 0.1))(p) for p in (0.0, 0.4, 0.5, 1.0)]
    [1.0, 1.0, 0.1, 0.1]
    """

    bounds: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.values) != len(self.bounds) + 1:
            raise ValueError(f"{len(self.bounds)} bounds need one value more, got {self.values}")

    def __call__(self, progress: float) -> float:
        return self.values[sum(progress >= bound for bound in self.bounds)]


@dataclass(frozen=True)
class Scaled:
    """A schedule times a number."""

    schedule: Schedule
    factor: float

    def __call__(self, progress: float) -> float:
        return self.factor * self.schedule(progress)


def check_until(until: float) -> None:
    if not 0 < until <= 1:
        raise ValueError(f"until must be a progress above 0 and up to 1, got {until}")


def scale(value: float | Schedule, factor: float) -> float | Schedule:
    """`factor` times a number or a schedule.

    >>> scale(Linear(0, 1), 3)(0.5)
    1.5
    """
    return value * factor if isinstance(value, int | float) else Scaled(value, factor)
