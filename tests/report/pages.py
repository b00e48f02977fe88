"""A report, and what to look at in it."""

import json
import re
from pathlib import Path

from limbeck.report import write_report


def report(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def change(path: Path, **values: object) -> None:
    """Set keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def headings(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def drawings(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)


def left_out(html: str) -> str:
    return html[html.index(">Left out<") :]
