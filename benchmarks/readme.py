"""Fills the tables of README.md from the committed results.

    python benchmarks/readme.py

A table stands between `<!-- NAME: FILE -->` and `<!-- end NAME -->`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
MARKS = re.compile(r"<!-- (\w+): (\S+) -->\n.*?<!-- end \1 -->", re.DOTALL)


def table(document: Mapping[str, Any]) -> str:
    """A comparison as Markdown: the verdict, then a row an arm."""
    against = {g["arm"]: g for g in document["gains"] if g["against"] == document["baseline"]}
    lines = [
        f"**{document['verdict']['text']}**",
        "",
        f"| arm | top-1 % | against {document['baseline']}, points (95 %) | seconds a run |",
        "|---|---|---|---|",
    ]
    for arm, row in document["arms"].items():
        mean = f"{100 * row['mean']:.2f} ± {100 * row['std']:.2f}"
        difference = interval(against[arm]) if arm in against else ""
        lines.append(f"| {arm} | {mean} | {difference} | {row['seconds']:.0f} |")
    teacher = document["teacher"]
    lines.append(f"| *its teacher* | {100 * teacher['mean']:.2f} | | |")
    return "\n".join(lines)


def interval(gain: Mapping[str, Any]) -> str:
    low, high = 100 * gain["low"], 100 * gain["high"]
    return f"{100 * gain['mean']:+.2f} ({low:+.2f} to {high:+.2f})"


def filled(text: str) -> str:
    """The text with every table made anew."""

    def fill(match: re.Match[str]) -> str:
        name, file = match.groups()
        document = json.loads((ROOT / file).read_text(encoding="utf-8"))
        return f"<!-- {name}: {file} -->\n{table(document)}\n<!-- end {name} -->"

    return MARKS.sub(fill, text)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(filled(readme.read_text(encoding="utf-8")), encoding="utf-8")
