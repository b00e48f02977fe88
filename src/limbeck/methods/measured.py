"""What `benchmarks/methods.py` measured of the methods, in words."""

import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "measured.json"


class Measured(NamedTuple):
    """A method against labels only, with equal steps.

    Args:
        gain: points of accuracy, the mean over seeds.
        low, high: its 95 % interval; None of a single seed, which only screens.
        seeds: how many.
        cost: a step's time over that of labels only, the teacher alive.
    """

    gain: float
    low: float | None
    high: float | None
    seeds: int
    cost: float | None

    @property
    def short(self) -> str:
        """A column of the listing; a question mark where there is no interval.

        >>> Measured(1.234, 0.8, 1.6, 3, 1.5).short, Measured(-0.5, None, None, 1, None).short
        ('+1.23', '-0.50?')
        """
        return f"{self.gain:+.2f}{'?' if self.low is None else ''}"

    @property
    def text(self) -> str:
        """In words.

        >>> Measured(-0.5, None, None, 1, None).text
        '-0.50 points, screened: one seed'
        """
        if self.low is None or self.high is None:
            return f"{self.gain:+.2f} points, screened: one seed"
        return f"{self.gain:+.2f} points (95 % {self.low:+.2f} to {self.high:+.2f})"


@cache
def measured() -> dict[str, Measured]:
    """By method; one that was not measured is missing."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))["methods"]
    return {name: Measured(**row) for name, row in rows.items()}


@cache
def where() -> str:
    """What it was measured on."""
    return str(json.loads(FILE.read_text(encoding="utf-8"))["where"])
