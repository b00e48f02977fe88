"""What the command line does with a recipe: fit the teacher, train, evaluate, compare."""

import json
import logging
import os
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.check.rehearsal import live
from limbeck.checkpoint import write_text
from limbeck.compare import Runner, compare, finished, slug
from limbeck.data import derive
from limbeck.errors import RecipeError
from limbeck.evaluate import evaluate
from limbeck.reader import Answer
from limbeck.recipe.arms import LABELS, arms_of, chosen, subject_of
from limbeck.recipe.build import Built, assemble, doubts, open_run, parts_of
from limbeck.recipe.chains import Link, direct, links, named, rehearse
from limbeck.recipe.chronicle import chronicle, scores
from limbeck.recipe.group import assess_students
from limbeck.recipe.images import Data
from limbeck.recipe.kinds import StoredSource
from limbeck.recipe.remembered import recalled, remember
from limbeck.recipe.schema import Recipe
from limbeck.recipe.sources import Voice
from limbeck.recipe.students import ENSEMBLE
from limbeck.recipe.terms import Term
from limbeck.recipe.text import differences, dump, parse, read
from limbeck.sources import Ensemble, Frozen
from limbeck.trackers import read_lines
from limbeck.train import train
from limbeck.train.ranks import Ranks, joined
from limbeck.train.run import restarted

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
    if recipe.chain is not None:
        return run_chain(recipe, folder, resume=resume, overwrite=overwrite)
    with joined() as ranks:
        resume = same_run(recipe, folder, ranks, resume=resume, overwrite=overwrite)
        built = assemble(recipe, ranks)
        if recipe.live is not None and recipe.live.fit is not None:
            built.rehearse()
        for doubt in doubts(built) if ranks.first else []:
            log.warning(doubt)
        opened = open_run(recipe, folder, ranks, resume=resume, overwrite=overwrite)
        with closing(opened):
            fitted = with_teacher(recipe, folder / "teacher", ranks)
            if fitted is not recipe:
                built = assemble(fitted, ranks, built.splits)
            recalled(built, record)
            begun = resume and ranks.from_first(opened.last.exists)
            student = train(built.job(opened, ranks), resume=begun)
            remember(built, record)
            return assess(built, student, folder) if ranks.first else {}


def run_chain(recipe: Recipe, folder: Path, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Trains the stages of a chain one after another, the last in the run folder itself.

    All are put together before the first is trained; one that is finished is not trained again.
    """
    with joined() as ranks:
        resume = same_run(recipe, folder, ranks, resume=resume, overwrite=overwrite)
        found = rehearse(recipe, ranks)
        for doubt in found if ranks.first else []:
            log.warning(doubt)
        opened = open_run(recipe, folder, ranks, resume=resume, overwrite=overwrite)
        with closing(opened):
            fitted = with_teacher(recipe, folder / "teacher", ranks)
            *earlier, last = links(fitted, folder)
            for link in earlier:
                with named(link):
                    bring(link, ranks)
            log.info("%s, taught by %s", last.name, " and ".join(last.stage.teachers))
            built = assemble(last.recipe, ranks)
            begun = resume and ranks.from_first(opened.last.exists)
            student = train(built.job(opened, ranks), resume=begun)
            if not ranks.first:
                return {}
            document = assess(assemble(direct(fitted), ranks, built.splits), student, folder)
            told = chronicle(recipe, [*earlier, last], built)
            write_text(folder / "chain.json", json.dumps(told, indent=1) + "\n")
            for line in scores(told, recipe.asked):
                log.info(line)
            return document


def bring(link: Link, ranks: Ranks) -> None:
    """Trains and evaluates a stage, from where an earlier call stopped."""
    folder, over = link.folder, finished(link.folder)
    ranks.wait()  # until all have looked
    if over:
        return
    log.info("%s, taught by %s", link.name, " and ".join(link.stage.teachers) or "labels")
    resume = (folder / "checkpoints" / "last.pt").exists()
    with closing(open_run(link.recipe, folder, ranks, resume=resume, overwrite=True)) as opened:
        built = assemble(link.recipe, ranks)
        student = train(built.job(opened, ranks), resume=resume)
        if ranks.first:
            assess(built, student, folder)
    ranks.wait()


def same_run(recipe: Recipe, folder: Path, ranks: Ranks, *, resume: bool, overwrite: bool) -> bool:
    """Whether to go on with the folder's run: on request, or since torchrun started this anew.

    Raises:
        RecipeError: it is another recipe's.
    """

    def going_on() -> bool:
        failed = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        on = resume or ((failed or not overwrite) and restarted(folder))
        if on:
            same_recipe(recipe, folder)
        return on

    return ranks.from_first(going_on)


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
    """The recipe with teachers that have been fitted, where it asks for that.

    `folder` is the teacher's; further sources have theirs below it.
    """
    ready = {
        name: block.model_copy(update=fitted(recipe, name, folder, ranks))
        for name, block in recipe.networks().items()
        if block.fit is not None
    }
    if not ready:
        return recipe
    teacher = recipe.teacher and ready.pop("teacher", recipe.teacher)
    return recipe.model_copy(update={"teacher": teacher, "sources": recipe.sources | ready})


def fitted(recipe: Recipe, name: str, folder: Path, ranks: Ranks) -> dict[str, Any]:
    """Fits one network, unless that is done; the keys that then say where its weights are."""
    home = folder if name == "teacher" else folder / "sources" / name
    alone = fitting(recipe, name)
    assert alone is not None
    fit_teacher(alone, home, ranks)
    ranks.wait()
    weights = (home / "student.safetensors").resolve()
    return {"checkpoint": weights, "pretrained": False, "fit_head": False, "fit": None}


def fitting(recipe: Recipe, name: str = "teacher") -> Recipe | None:
    """The training that a teacher gets first, on the labelled images alone, if any.

    Beside the teacher others begin differently and see images in another order, so that two of one
    kind differ, but learn from the same labels.
    """
    block = recipe.networks().get(name)
    if block is None or block.fit is None:
        return None
    data, seed = labelled_part(recipe.data), recipe.seed
    if name != "teacher":
        kept = seed if data.labels_seed is None else data.labels_seed
        seed = derive(recipe.seed, f"source {name}") % 2**32
        data = data.model_copy(update={"labels_seed": kept})
    return recipe.model_copy(
        update={
            "seed": seed,
            "student": block,
            "students": None,
            "teach": "each",
            "teacher": None,
            "sources": {},
            "chain": None,
            "dense": None,
            "objective": [Term(loss="truth")],
            "train": block.fit,
            "data": data,
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
    return data.model_copy(
        update={"unlabelled": False, "views": None, "pairs": None, "strong": None}
    )


def done(folder: Path) -> bool:
    return any(line["kind"] == "done" for line in read_lines(folder / "metrics.jsonl"))


def assess(built: Built, student: nn.Module, folder: Path) -> dict[str, Any]:
    """Evaluates a run's last student on the test images, beside its teacher; of several, all."""
    recipe = built.recipe
    parts = recipe.train.parallel == "fsdp" and (recipe.students is not None or parts_of(recipe))
    whole = assemble(recipe, Ranks(), built.splits) if parts else built  # which one rank can ask
    if recipe.students is not None:
        document = assess_students(whole, folder, teacher_view(whole))
    else:
        document = evaluate(
            student,
            built.distiller.reader.adapt,
            built.splits.test,
            workers=recipe.data.workers,
            teacher=teacher_view(whole),
            split=recipe.data.test or recipe.data.valid or "valid",
            task=recipe.asked,
        )
    write_text(folder / "evaluation.json", json.dumps(document, indent=1) + "\n")
    return document


def teacher_view(built: Built) -> tuple[nn.Module, Any] | None:
    """The teacher as a model that answers in the data's classes, and its view of an image.

    It is the source of that name, else the only network there is; an ensemble answers as one.
    """
    networks = [*built.recipe.networks()]
    name = networks[0] if len(networks) == 1 else "teacher"
    source = built.distiller.sources.get("teacher") or built.distiller.sources.get(name)
    source = source and live(source)
    if isinstance(source, Ensemble) and all(type(each) is Frozen for each in source.sources):
        return Voice(source), lambda images: images
    if type(source) is not Frozen:
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
    arms, subject = chosen(arms_of(recipe), only), subject_of(recipe)
    if not {LABELS, subject} <= arms.keys():
        raise RecipeError([f"a comparison needs the arms {LABELS!r} and {subject!r}"])
    shared_views(recipe, seeds or recipe.compare.seeds)
    return compare(
        list(arms),
        range(seeds or recipe.compare.seeds),
        runner(arms, out / "teachers", subject),
        out,
        baseline=LABELS,
        subject=subject,
        recipe=name or recipe.data.train,
        task=recipe.asked,
        students=[*recipe.students, ENSEMBLE] if recipe.students else (),
    )


def shared_views(recipe: Recipe, seeds: int) -> None:
    """Refuses a store whose views only one of the seeds would see."""
    stored = any(isinstance(block, StoredSource) for block in recipe.teachers().values())
    varied = recipe.data.augment.augment() is not None or recipe.data.strong is not None
    if stored and varied and seeds > 1 and recipe.data.views_seed is None:
        raise RecipeError(
            ["data.views_seed: all seeds read one store; set the one that it was made with"]
        )


def runner(arms: Mapping[str, Recipe], teachers: Path, subject: str) -> Runner:
    """Brings one arm with one seed to its end, unless it is there.

    The arms of a seed share the teacher of the `subject` and what that has said; one that the
    recipe gives another teacher or other images has its own.
    """

    def arm(name: str, seed: int, folder: Path) -> None:
        shared = not arms[name].networks() or same_lesson(arms[name], arms[subject])
        home = (teachers if shared else teachers / slug(name)) / f"seed-{seed}"
        recipe = with_teacher(arms[name].model_copy(update={"seed": seed}), home, Ranks())
        begun = (folder / "recipe.yaml").exists()
        if begun:
            same_recipe(recipe, folder)
        if not finished(folder):
            run(recipe, folder, resume=begun, overwrite=True, record=home)

    return arm


def same_lesson(recipe: Recipe, other: Recipe) -> bool:
    """Whether all teachers of a recipe are the other's, which also sees the same images."""
    known = other.networks()
    same = all(known.get(name) == block for name, block in recipe.networks().items())
    return same and labelled_part(recipe.data) == labelled_part(other.data)
