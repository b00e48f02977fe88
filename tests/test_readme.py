"""The README's tables are the committed results."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_tables_are_the_committed_results() -> None:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "benchmarks" / "readme.py")
    assert spec is not None
    assert spec.loader is not None
    readme = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(readme)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- end demo -->" in text
    assert readme.filled(text) == text
