"""A run and a comparison."""

from pathlib import Path

import pytest
from tests.report.made import make_comparison, make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    make_run(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    make_comparison(tmp_path / "comparison")
    return tmp_path / "comparison"
