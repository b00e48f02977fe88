"""How wide words are, in any usual font without serifs."""

NARROW, WIDE = " .,:;'|!()[]/ijltfr", "mwMW@%"


def width(text: str, size: float) -> float:
    """At most so many pixels, at a size in pixels.

    >>> width("kl", 10) < width("KL", 10) < width("WW", 10) == 20.0
    True
    """
    return size * sum(map(ems, text))


def ems(letter: str) -> float:
    """One letter, as a part of the font's size."""
    if letter in NARROW:
        return 0.45
    if letter in WIDE or ord(letter) > 0x2E80:
        return 1.0
    return 0.8 if letter.isupper() else 0.66
