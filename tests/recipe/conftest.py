"""A folder of small JPEG files, a recipe on it, and trainings of a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.recipe.raws import raw
from tests.recipe.runs import Steps
from tests.train.jobs import images

MakePictures = Callable[..., Path]
CLASSES = ("ant", "bee", "cow")


@pytest.fixture
def pictures(tmp_path: Path) -> MakePictures:
    """Writes an ImageFolder of noisy colours: brightness says the class."""

    def make(name: str = "train", n: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
        random = np.random.default_rng(len(name))
        for label, kind in enumerate(classes):
            (tmp_path / name / kind).mkdir(parents=True)
            for i in range(n):
                pixels = random.integers(0, 90, (8, 8, 3)) + 60 * label
                picture = Image.fromarray(pixels.astype(np.uint8))
                picture.save(tmp_path / name / kind / f"{i}.jpg", quality=95)
        return tmp_path / name

    return make


@pytest.fixture
def small(pictures: MakePictures) -> Callable[..., dict[str, Any]]:
    """A recipe of four steps an epoch, teacher and student of the zoo."""
    train, valid = pictures(), pictures("valid", 3)

    def make(**changes: Any) -> dict[str, Any]:
        given = {
            "data": {"train": f"folder:{train}", "valid": f"folder:{valid}"},
            "student": {
                "model": "limbeck.zoo:mlp",
                "options": {"hidden": 4, "channels": 3, "size": 8},
            },
            "teacher": {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}},
            "train": {"epochs": 2, "batch_size": 6, "lr": 0.05, "log_every": 1},
        }
        return raw(**{**given, **changes})

    return make


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Speed is measured by three calls, however short they are."""
    monkeypatch.setattr("limbeck.evaluate.speed.SECONDS", 0.0)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


@pytest.fixture
def noisy(tmp_path: Path) -> Path:
    """The images of the training's tests as files, a folder for each class."""
    data = images(36)
    for i, (pixels, label) in enumerate(zip(data.pixels, data.labels.tolist(), strict=True)):
        folder = tmp_path / "pictures" / data.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
    return tmp_path / "pictures"
