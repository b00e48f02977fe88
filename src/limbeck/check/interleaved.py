"""Times of several ways to do one thing, taken in turns."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from limbeck.evaluate.speed import wait

ROUNDS = 7


@dataclass(frozen=True)
class Times:
    """Seconds of the first call, and of each after it."""

    first: float
    rest: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.rest)

    @property
    def start(self) -> float:
        """What the first call took beyond what every call takes, such as compiling."""
        return max(self.first - self.median, 0.0)


def interleaved(
    ways: Mapping[str, Callable[[], object]], device: torch.device, rounds: int = ROUNDS
) -> dict[str, Times]:
    """Every way once, then `rounds` times in a new order each: a busy machine is so to all alike.

    Times are those of the process on the CPU, which others on the machine do not lengthen, and of
    the clock for first calls, since compilers have processes of their own, and on devices.

    >>> sorted(interleaved({"a": dict, "b": list}, torch.device("cpu"), rounds=2)["a"].__dict__)
    ['first', 'rest']
    """
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    first = {name: timed(call, device, time.perf_counter) for name, call in ways.items()}
    rest: dict[str, list[float]] = {name: [] for name in ways}
    order, shuffle = list(ways), random.Random(0)
    for _ in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            rest[name].append(timed(ways[name], device, clock))
    return {name: Times(first[name], tuple(rest[name])) for name in ways}


def timed(call: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Seconds of a call; those that it gives itself, if it does."""
    wait(device)
    begun = clock()
    found = call()
    wait(device)
    return found if isinstance(found, float) else clock() - begun


def ratio(base: Sequence[float], other: Sequence[float]) -> float:
    """How many times faster: the median over rounds.

    >>> ratio([2.0, 2.0, 9.0], [1.0, 1.0, 1.0])
    2.0
    """
    return statistics.median(b / o for b, o in zip(base, other, strict=True))
