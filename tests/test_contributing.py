"""The worked example of CONTRIBUTING does what it says, in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PART = re.compile(r"^# (\S+\.py)\n(.*?)(?=^# \S+\.py$|\Z)", re.DOTALL | re.MULTILINE)


def parts() -> list[tuple[str, str]]:
    """What the example puts where."""
    return PART.findall(
        "".join(FENCE.findall((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    )


def put(path: Path, text: str) -> None:
    """A row goes to the other rows, a line to the other imports, anything else to the end."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if path.name.startswith("rows_"):
        rows, end, _ = before.rpartition(")")
        path.write_text(f"{rows}{text.strip()},{end}\n", encoding="utf-8")
    elif path.name == "__init__.py":
        path.write_text(before.replace("\nfrom ", f"\n{text}from ", 1), encoding="utf-8")
    else:
        path.write_text(f"{before}\n\n{text}", encoding="utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests" / "losses").mkdir(parents=True)
    for path, text in parts():
        put(root / path, text)
    return root


def ran(copy: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_index_tells_of_it(copy: Path) -> None:
    assert "smooth_l1 " in ran(copy, "limbeck", "methods")
    told = ran(copy, "limbeck", "methods", "smooth_l1")
    assert told.startswith("smooth_l1(student, theirs=None, *, weight=1.0)\n")
    assert "arXiv 2202.03555" in told
    assert "data2vec's regression" in told


def test_its_tests_and_its_examples_pass(copy: Path) -> None:
    files = [path for path, _ in parts() if path.endswith(("token.py", "tokens.py", "_l1.py"))]
    told = ran(copy, "pytest", "-q", "--doctest-modules", "-k", "smooth_l1", *files)
    assert re.search(r"^4 passed", told, re.MULTILINE)
