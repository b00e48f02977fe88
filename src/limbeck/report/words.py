"""Numbers as a reader wants them; what is missing is a dash."""

import re

from limbeck.tasks import Measure

MISSING = "–"
MINUS = "−"


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage.

    >>> percent(0.9124)
    '91.24 %'
    """
    return MISSING if value is None else f"{100 * value:.{digits}f} %"


def score(measure: Measure, value: float | None, digits: int = 2) -> str:
    """A score as its measure wants it; `digits` are those of a percentage."""
    if value is None or measure.percent:
        return percent(value, digits)
    if measure.form.endswith("f"):
        return decimal(value)
    return f"{value:{measure.form}}".replace("-", MINUS)


def gain(measure: Measure, value: float | None) -> str:
    """A signed difference of scores, without its unit."""
    if value is None or measure.percent:
        return points(value)
    return f"{value:+{measure.form}}".replace("-", MINUS)


def points(value: float | None) -> str:
    """A difference of shares in signed percentage points.

    >>> points(0.0421), points(-0.01)
    ('+4.21', '−1.00')
    """
    return MISSING if value is None else f"{100 * value:+.2f}".replace("-", MINUS)


def interval(measure: Measure, low: float | None, high: float | None) -> str:
    """Both ends of an interval of signed differences.

    >>> interval(Measure("top1", "top-1", "Top-1"), 0.031, 0.0532)
    '+3.10 to +5.32'
    """
    if low is None or high is None:
        return MISSING
    return f"{gain(measure, low)} to {gain(measure, high)}"


def decimal(value: float | None, digits: int = 3) -> str:
    """A plain number with `digits` decimals.

    >>> decimal(0.02149)
    '0.021'
    """
    return MISSING if value is None else f"{value:.{digits}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """A whole number with its thousands apart.

    >>> count(39680)
    '39,680'
    """
    return MISSING if value is None else f"{value:,.0f}"


def short(value: float | None, unit: str = "") -> str:
    """Three digits and a prefix.

    >>> short(51_234), short(25.6e6), short(204_000, "B")
    ('51.2 k', '25.6 M', '204 kB')
    """
    if value is None:
        return MISSING
    size, prefix = abs(value), ""
    for larger in "kMGTP":
        if float(f"{size:.3g}") < 1000:
            break
        size, prefix = size / 1000, larger
    sign = MINUS if value < 0 else ""
    return f"{sign}{size:.3g} {prefix}{unit}".rstrip()


def seconds(value: float | None) -> str:
    """A duration in the two largest units that matter.

    >>> seconds(3.14), seconds(192), seconds(7500)
    ('3.1 s', '3 min 12 s', '2 h 05 min')
    """
    if value is None:
        return MISSING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def times(larger: float | None, smaller: float | None) -> str:
    """How many times `larger` is `smaller`.

    >>> times(25.6e6, 2.5e6)
    '10.2×'
    """
    return MISSING if larger is None or not smaller else f"{larger / smaller:.3g}×"


def tied(text: str) -> str:
    """`text` with every number kept on the line of its unit.

    >>> tied("7 runs in 3.1 s").split(" ")
    ['7', 'runs', 'in', '3.1\\xa0s']
    """
    return re.sub(r"(?<=\d) (?=(%|s|ms|min|h|points|seeds?)\b|%)", "\u00a0", text)


def sentence(text: str) -> str:
    """`text` with a capital and a full stop.

    >>> sentence("distilled beats labels only")
    'Distilled beats labels only.'
    """
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
