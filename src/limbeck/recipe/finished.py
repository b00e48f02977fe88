"""What can be done with a run folder: load its student, evaluate it, ship it."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.errors import LimbeckError
from limbeck.exits import without
from limbeck.export import export
from limbeck.inputs import Preprocess
from limbeck.recipe.build import Built, assemble
from limbeck.recipe.chains import direct
from limbeck.recipe.group import chosen, load_students
from limbeck.recipe.pipeline import assess, with_teacher
from limbeck.recipe.schema import Recipe
from limbeck.recipe.text import read
from limbeck.train.ranks import Ranks


def recipe_of(folder: Path) -> Recipe:
    """The recipe that a run folder was made by."""
    if not (folder / "student.safetensors").is_file():
        raise LimbeckError(f"{folder} must be a run folder with a student, as limbeck train leaves")
    return read(folder / "recipe.yaml")


def rebuilt(folder: Path) -> Built:
    """A run's objects, its student as it was saved last, or all of them."""
    recipe = direct(with_teacher(recipe_of(folder), folder / "teacher", Ranks()))
    built = assemble(recipe, Ranks())
    load_students(built, folder)
    built.distiller.to(built.device)
    return built


def load(folder: str | Path, student: str | None = None) -> nn.Module:
    """The student of a run folder: the plain module in eval mode, ready to use.

    Of several students the one that is named, else the first.

    Raises:
        LimbeckError: a folder that holds no finished student, or none of that name.
    """
    built = rebuilt(Path(folder))
    return without(built.distiller.students[chosen(built, student)]).eval()


def evaluate_run(folder: Path) -> dict[str, Any]:
    """Evaluates a run's student and writes its `evaluation.json`."""
    built = rebuilt(folder)
    return assess(built, without(built.distiller.student), folder)


def export_run(
    folder: Path, out: Path, *, onnx: bool, student: str | None = None
) -> dict[str, Any]:
    """Ships a run's student as a folder of its own; of several the one named, else the first."""
    built = rebuilt(folder)
    name, images = chosen(built, student), built.splits.test
    block = (built.recipe.students or {}).get(name, built.recipe.student)
    preprocess = built.distiller.readers[name].inputs
    assert isinstance(preprocess, Preprocess)
    channels, height, width = images.fetch(torch.tensor([0])).shape[1:]
    return export(
        without(built.distiller.students[name]),
        preprocess,
        images.classes,
        (channels, height, width),
        out,
        model=block.model,
        options=block.options,
        onnx=onnx,
        task=built.recipe.asked,
    )
