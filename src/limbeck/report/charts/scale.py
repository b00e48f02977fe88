"""Values on paper: linear and logarithmic scales with ticks that are easy to read."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from limbeck.report.words import MINUS, short


@dataclass(frozen=True)
class Scale:
    """Values `low..high` laid on the pixels `start..end`.

    >>> Scale(0, 10, 100, 200)(5)
    150.0
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (self.unit(each) for each in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def unit(self, value: float) -> float:
        """`value`, or its logarithm."""
        return math.log10(value) if self.log else value

    def ticks(self) -> list[float]:
        """Round values from `low` to `high`."""
        decades = log_ticks(self.low, self.high) if self.log else []
        return decades if len(decades) > 1 else ticks(self.low, self.high)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """About `about` multiples of 1, 2, 2.5 or 5 times a power of ten in `low..high`.

    >>> ticks(0, 97)
    [0.0, 20.0, 40.0, 60.0, 80.0]
    >>> ticks(41, 94)
    [50.0, 60.0, 70.0, 80.0, 90.0]
    """
    raw = 0.75 * (high - low) / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= raw * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    digits = max(0, 2 - math.floor(math.log10(step)))
    return [round(index * step, digits) for index in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Powers of ten in `low..high`, with 2 and 5 between them where there is room.

    >>> log_ticks(30, 900)
    [50.0, 100.0, 200.0, 500.0]
    """
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for between in ((1, 2, 5), (1,)):
        found = [float(f"{lead}e{power}") for power in powers for lead in between]
        found = [value for value in found if low <= value <= high]
        if len(found) <= most:
            return found
    return found[:: math.ceil(len(found) / most)]


def tick_texts(values: Iterable[float]) -> list[str]:
    """Labels with just the decimals that tell the values apart.

    >>> tick_texts([0, 2.5, 5]), tick_texts([0, 20000, 40000]), tick_texts([-1, 0, 1])
    (['0.0', '2.5', '5.0'], ['0', '20 k', '40 k'], ['−1', '0', '1'])
    """
    values = list(values)
    largest = max((abs(value) for value in values), default=0.0)
    if largest >= 10_000:
        return [short(value) for value in values]
    if 0 < largest < 1e-3:
        return [f"{value:g}".replace("-", MINUS) for value in values]
    digits = next(
        (d for d in range(6) if all(math.isclose(round(v, d), v, abs_tol=1e-9) for v in values)), 6
    )
    return [f"{value:.{digits}f}".replace("-", MINUS) for value in values]


def span(values: Iterable[float], pad: float = 0.06, least: float = 0.0) -> tuple[float, float]:
    """The range of `values`, at least `least` wide, with `pad` of it free at either end.

    >>> span([0, 10], pad=0.1), span([5, 6], pad=0, least=4)
    ((-1.0, 11.0), (3.5, 7.5))
    """
    values = list(values)
    low, high = min(values), max(values)
    wanted = least if high > low else max(least, abs(high) * 0.1, 1e-6)
    short_of = max(0.0, wanted - (high - low)) / 2
    room = short_of + pad * (high - low)
    return low - room, high + room
