"""What the command line does with a recipe: fit the teacher, train, evaluate, compare."""

import hashlib
import json
import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.checkpoint import write_text
from limbeck.compare import Runner, compare, finished, slug
from limbeck.errors import RecipeError
from limbeck.evaluate import evaluate
from limbeck.reader import Answer
from limbeck.recipe.arms import DISTILLED, LABELS, arms_of, chosen
from limbeck.recipe.build import Built, assemble, doubts, open_run
from limbeck.recipe.schema import Data, Recipe, Teacher
from limbeck.recipe.terms import Term
from limbeck.recipe.text import differences, dump, parse, read
from limbeck.sources import Frozen, Recorded
from limbeck.trackers import read_lines
from limbeck.train import train
from limbeck.train.ranks import Ranks, joined

log = logging.getLogger("limbeck")


def run(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    record: Path | None = None,
) -> dict[str, Any]:
    """Trains a recipe's student in a run folder, and evaluates it; the evaluation.

    `record` is a folder where a recorded teacher's answers are kept for other runs of this seed.

    Raises:
        LimbeckError: a folder in use, a recipe that is not the one to resume, a failed training.
    """
    with joined() as ranks:
        if resume:
            same_recipe(recipe, folder)
        built = assemble(recipe, ranks)
        if recipe.teacher is not None and recipe.teacher.fit is not None:
            built.rehearse()
        for doubt in doubts(built) if ranks.first else []:
            log.warning(doubt)
        opened = open_run(recipe, folder, ranks, resume=resume, overwrite=overwrite)
        with closing(opened):
            fitted = with_teacher(recipe, folder / "teacher", ranks)
            if fitted is not recipe:
                built = assemble(fitted, ranks, built.splits)
            recalled(built, record)
            student = train(built.job(opened, ranks), resume=resume and opened.last.exists())
            remember(built, record)
            return assess(built, student, folder) if ranks.first else {}


def same_recipe(recipe: Recipe, folder: Path) -> None:
    """Raises RecipeError with every key in which the folder's recipe differs.

    Keys that it lacks, since an older limbeck wrote it, have their defaults.
    """
    path = folder / "recipe.yaml"
    if not path.is_file():
        raise RecipeError([f"{folder} holds no run to resume; leave out --resume"])
    before, after = (parse(dump(each), "the recipe") for each in (read(path), recipe))
    changed = differences(before | {"compare": None}, after | {"compare": None})
    if changed:
        raise RecipeError(
            [
                f"{folder} was made by another recipe, so going on would not equal any run: "
                "undo these changes, or train in a new folder",
                *changed,
            ]
        )


def with_teacher(recipe: Recipe, folder: Path, ranks: Ranks) -> Recipe:
    """The recipe with a teacher that has been fitted, where it asks for that."""
    alone = fitting(recipe)
    if alone is None or recipe.teacher is None:
        return recipe
    fit_teacher(alone, folder, ranks)
    ranks.wait()
    weights = (folder / "student.safetensors").resolve()
    update = {"checkpoint": weights, "pretrained": False, "fit_head": False, "fit": None}
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update=update)})


def fitting(recipe: Recipe) -> Recipe | None:
    """The training that the teacher gets first, on the labelled images alone, if any."""
    teacher = recipe.teacher
    if teacher is None or teacher.fit is None:
        return None
    return recipe.model_copy(
        update={
            "student": teacher,
            "teacher": None,
            "objective": [Term(loss="truth")],
            "train": teacher.fit,
            "data": labelled_part(recipe.data),
        }
    )


def fit_teacher(alone: Recipe, folder: Path, ranks: Ranks) -> None:
    """Trains the teacher; goes on where it stopped."""
    if (folder / "recipe.yaml").is_file():
        same_recipe(alone, folder)
    if not done(folder):
        resume = (folder / "checkpoints" / "last.pt").exists()
        with closing(open_run(alone, folder, ranks, resume=resume, overwrite=True)) as opened:
            train(assemble(alone, ranks).job(opened, ranks), resume=resume)


def labelled_part(data: Data) -> Data:
    """What a teacher is fitted on: the images with labels, varied anew in every pass."""
    return data.model_copy(update={"unlabelled": False, "views": None})


def done(folder: Path) -> bool:
    return any(line["kind"] == "done" for line in read_lines(folder / "metrics.jsonl"))


def assess(built: Built, student: nn.Module, folder: Path) -> dict[str, Any]:
    """Evaluates a run's last student on the test images, beside its teacher."""
    recipe = built.recipe
    document = evaluate(
        student,
        built.distiller.reader.adapt,
        built.splits.test,
        workers=recipe.data.workers,
        teacher=teacher_view(built),
        split=recipe.data.test or recipe.data.valid or "valid",
        task=recipe.asked,
    )
    write_text(folder / "evaluation.json", json.dumps(document, indent=1) + "\n")
    return document


def teacher_view(built: Built) -> tuple[nn.Module, Any] | None:
    """The teacher as a model that answers in the data's classes, and its view of an image."""
    source = built.distiller.sources.get("teacher")
    if isinstance(source, Recorded):
        source = source.source
    if not isinstance(source, Frozen):
        return None
    return Answer(source.reader), source.inputs


def compare_recipe(
    recipe: Recipe,
    out: Path,
    seeds: int | None = None,
    only: tuple[str, ...] = (),
    *,
    name: str | None = None,
) -> dict[str, Any]:
    """Every arm with every seed, from where an earlier call stopped; the comparison.

    One teacher a seed is fitted where the recipe asks for that, and serves all arms. `name` is what
    the report calls the recipe; its training images unless given.
    """
    arms = chosen(arms_of(recipe), only)
    if not {LABELS, DISTILLED} <= arms.keys():
        raise RecipeError([f"a comparison needs the arms {LABELS!r} and {DISTILLED!r}"])
    return compare(
        list(arms),
        range(seeds or recipe.compare.seeds),
        runner(arms, out / "teachers"),
        out,
        baseline=LABELS,
        subject=DISTILLED,
        recipe=name or recipe.data.train,
        task=recipe.asked,
    )


def runner(arms: Mapping[str, Recipe], teachers: Path) -> Runner:
    """Brings one arm with one seed to its end, unless it is there.

    The arms of a seed share its teacher and what that has said; one that the recipe gives another
    teacher or other images has its own.
    """

    def arm(name: str, seed: int, folder: Path) -> None:
        shared = arms[name].teacher is None or lesson(arms[name]) == lesson(arms[DISTILLED])
        home = (teachers if shared else teachers / slug(name)) / f"seed-{seed}"
        recipe = with_teacher(arms[name].model_copy(update={"seed": seed}), home, Ranks())
        begun = (folder / "recipe.yaml").exists()
        if begun:
            same_recipe(recipe, folder)
        if not finished(folder):
            run(recipe, folder, resume=begun, overwrite=True, record=home)

    return arm


def lesson(recipe: Recipe) -> tuple[Teacher | None, Data]:
    """What a teacher's answers depend on."""
    return recipe.teacher, labelled_part(recipe.data)


def recalled(built: Built, home: Path | None) -> None:
    """Fills a recorded teacher from an earlier record, if there is one."""
    source = built.distiller.sources.get("teacher")
    if home is not None and isinstance(source, Recorded) and record_in(home).exists():
        source.load(record_in(home), fingerprint(built))


def remember(built: Built, home: Path | None) -> None:
    """Keeps what a recorded teacher said."""
    source = built.distiller.sources.get("teacher")
    if home is not None and isinstance(source, Recorded):
        home.mkdir(parents=True, exist_ok=True)
        source.save(record_in(home), fingerprint(built))


def record_in(home: Path) -> Path:
    return home / "record.safetensors"


def fingerprint(built: Built) -> str:
    """What a record depends on: the teacher's weights and block, the images, their views."""
    recipe = built.recipe
    assert recipe.teacher is not None
    data = recipe.data
    images = (data.train, data.valid, data.root, data.image_size, data.augment, data.views)
    digest = hashlib.sha256(repr((recipe.seed, images, recipe.teacher)).encode())
    for module in built.distiller.sources["teacher"].modules():
        for value in module.state_dict().values():
            digest.update(value.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
