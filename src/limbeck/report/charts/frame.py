"""The axes that line charts and scatter plots stand in."""

from dataclasses import dataclass

from markupsafe import Markup

from limbeck.report.charts.ink import EMPTY, stroke, words
from limbeck.report.charts.scale import Scale, tick_texts

WIDTH, HEIGHT = 440.0, 270.0
LEFT, TOP, BOTTOM = 42.0, 30.0, 230.0


@dataclass(frozen=True)
class Frame:
    """Two scales and their titles; pixels of y grow downwards."""

    x: Scale
    y: Scale
    x_title: str
    y_title: str

    def axes(self) -> Markup:
        """Horizontal rules, ticks and titles."""
        left, right = self.x.start, self.x.end
        low, high = self.y.start, self.y.end
        parts = [words(2, high - 14, self.y_title, kind="title")]
        for value, text in labelled(self.y):
            parts.append(stroke(left, self.y(value), right, self.y(value), "rule"))
            parts.append(words(left - 7, self.y(value) + 4, text, "end", "tick"))
        for value, text in labelled(self.x):
            parts.append(stroke(self.x(value), low, self.x(value), low + 4, "axis"))
            parts.append(words(self.x(value), low + 18, text, "middle", "tick"))
        parts.append(stroke(left, low, right, low, "axis"))
        parts.append(words(right, low + 35, self.x_title, "end", "title"))
        return EMPTY.join(parts)


def labelled(scale: Scale) -> list[tuple[float, str]]:
    """The ticks of a scale with their texts."""
    values = scale.ticks()
    return list(zip(values, tick_texts(values), strict=True))
