"""Asking again after a failure that may pass."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from limbeck.errors import LimbeckError

log = logging.getLogger("limbeck")
T = TypeVar("T")


class Passing(Exception):
    """A failure that may pass; `wait` is the number of seconds that the server asks for."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


@dataclass(frozen=True)
class Retry:
    """How often to ask, and how long to wait in between.

    After the n-th failure the wait is `min(longest, first * 2^(n-1)) * (1 + u) / 2` seconds, u
    being uniform in [0, 1), so that requests that failed together do not come back together. A
    server's own `Retry-After` comes first: then `first * u` is added to what it asks for.

    Args:
        tries: requests at most.
        first: seconds.
        longest: seconds between two tries, where the server asks for nothing.
        patience: seconds that a server may ask for.
    """

    tries: int = 10
    first: float = 0.5
    longest: float = 60.0
    patience: float = 600.0

    def wait(self, failures: int, asked: float | None, u: float) -> float:
        """Seconds after this many failures.

        >>> [Retry(longest=3.0).wait(n, None, 1.0) for n in (1, 2, 3, 4)]
        [0.5, 1.0, 2.0, 3.0]
        >>> Retry().wait(1, 20.0, 0.5)
        20.25
        """
        if asked is not None:
            return asked + self.first * u
        return min(self.longest, self.first * 2.0 ** (failures - 1)) * (1 + u) / 2


async def persist(
    ask: Callable[[], Awaitable[T]],
    retry: Retry,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    uniform: Callable[[], float] = random.random,
) -> T:
    """What `ask` returns when it no longer fails with `Passing`.

    Raises:
        LimbeckError: too many failures, or a server that asks for too long a wait.
    """
    failures = 0
    while True:
        try:
            return await ask()
        except Passing as failure:
            failures += 1
            seconds = next_wait(retry, failures, failure, uniform())
            log.debug("%s; asking again in %.1f s", failure, seconds)
            await sleep(seconds)


def next_wait(retry: Retry, failures: int, failure: Passing, u: float) -> float:
    if failures >= retry.tries:
        raise LimbeckError(
            f"no answer in {failures} tries, the last: {failure}; see to the server and run this "
            "again, which goes on where it stopped"
        ) from failure
    if failure.wait is not None and failure.wait > retry.patience:
        raise LimbeckError(
            f"{failure}, and asks for {failure.wait:.0f} s, more than {retry.patience:.0f}; run "
            "this again then, which goes on where it stopped"
        ) from failure
    return retry.wait(failures, failure.wait, u)
