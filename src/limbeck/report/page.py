"""What a report shows, ready for the template."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup


class Cell(NamedTuple):
    """A value in a table, and a smaller line below it."""

    text: str
    small: str = ""


@dataclass(frozen=True)
class TableRow:
    """A row by its name; a strong one is what the report is about."""

    name: str
    cells: Sequence[Cell]
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[TableRow]


@dataclass(frozen=True)
class Figure:
    """A chart under its title."""

    title: str
    picture: Markup
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the report; without tables and figures it is left out, and `needs` says why."""

    title: str
    lead: str = ""
    tables: Sequence[Table] = ()
    figures: Sequence[Figure] = ()
    needs: str = ""
    small: bool = False
    wide: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not self.tables and not self.figures


class Fact(NamedTuple):
    """A number that the reader came for."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """The whole report, verdict first."""

    title: str
    kicker: str
    sign: str
    headline: str
    sentences: Sequence[str]
    facts: Sequence[Fact]
    sections: Sequence[Section]
    recipe: str | None
    environment: dict[str, str]
    notes: Sequence[str] = field(default=())

    def shown(self) -> list[Section]:
        """The sections that have something to show."""
        return [section for section in self.sections if not section.empty]

    def left_out(self) -> list[str]:
        """A line for each section that has nothing to show, then the notes."""
        empty = [section for section in self.sections if section.empty and section.needs]
        return [f"{section.title}: {section.needs}" for section in empty] + list(self.notes)


def flat(tree: dict[str, object], prefix: str = "") -> dict[str, str]:
    """A tree of settings as one level of dotted names.

    >>> flat({"seed": 1, "versions": {"torch": "2.9"}})
    {'seed': '1', 'versions.torch': '2.9'}
    """
    lines: dict[str, str] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            lines |= flat(value, f"{prefix}{name}.")
        else:
            lines[f"{prefix}{name}"] = str(value)
    return lines
