"""How Sphinx builds these pages: sphinx-build -W -b html docs docs/_build/html"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generate

from limbeck import __version__

project = "limbeck"
copyright = "the limbeck authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "generated"]
myst_heading_anchors = 3
default_role = "code"

autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_custom_sections = ["Paper"]
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "limbeck"
html_show_sphinx = False

CODE = re.compile(r"(`[^`]*`)")


def plain_formulas(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text: outside of code, `*` and `|` mean themselves."""
    for i, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            parts = CODE.split(line)
            lines[i] = "".join(p if p[:1] == "`" else re.sub(r"([*|])", r"\\\1", p) for p in parts)


def setup(app: Any) -> None:
    generate.write(Path(__file__).parent / "generated")
    app.connect("autodoc-process-docstring", plain_formulas, priority=400)
