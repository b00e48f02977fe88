"""Trainings in processes of their own: killed and resumed, and on two ranks beside one."""

import signal
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from tests.test_cli import resumed
from tests.train.jobs import equal, saved
from tests.train.test_accumulate import TORCHRUN, launched

from limbeck.recipe import Recipe
from limbeck.recipe.text import dump


def two_ranks(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The last checkpoint of a training that torchrun has started on two ranks."""
    path, out = folder / "recipe.yaml", folder / "two"
    path.write_text(dump(recipe))
    launched(*TORCHRUN, "-m", "limbeck", "train", str(path), "--out", str(out))
    return saved(out)


def students_survive_a_kill(text: str, pictures: Path, folder: Path) -> None:
    """`text` names the images, the first student, epochs, rows and pieces of a step."""
    path, given = folder / "recipe.yaml", {"a": "slow", "epochs": 10, "rows": 6, "accumulate": 1}
    path.write_text(text.format(folder=pictures, **given))
    resumed(path, folder, [(signal.SIGKILL, -signal.SIGKILL)])
    for name in "ab":
        files = [folder / run / f"students/{name}.safetensors" for run in ("broken", "straight")]
        assert equal(*map(load_file, files))


def one_and_two(text: str, pictures: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The last checkpoints of one process, and of two that share its batches in two pieces."""
    for name, accumulate, launcher in (("one", 1, ()), ("two", 2, TORCHRUN)):
        recipe, out = folder / f"{name}.yaml", folder / name
        given = {"a": "net", "epochs": 3, "rows": 12, "accumulate": accumulate}
        recipe.write_text(text.format(folder=pictures, **given))
        launched(*launcher, "-m", "limbeck", "train", str(recipe), "--out", str(out))
    one, two = saved(folder / "one"), saved(folder / "two")
    assert one["step"] == two["step"] == 9
    return one, two
