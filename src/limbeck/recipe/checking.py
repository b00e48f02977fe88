"""What a recipe makes, looked at before it is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from limbeck.check import check
from limbeck.recipe.build import Built, Splits, assemble, doubts, teacher_source
from limbeck.recipe.pipeline import fitting
from limbeck.recipe.schema import Recipe, Teacher
from limbeck.sources import Source
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Builds everything that a recipe names, runs one batch, trains nothing; what it found.

    Where the teacher is to be fitted first, `fit` is the check of that training. Nothing is
    written, and torch's random numbers and threads are afterwards as they were.

    Raises:
        LimbeckError: what cannot be put together.
    """
    with untouched():
        built = assemble(recipe, Ranks())
        document = checked(built)
        alone = fitting(recipe)
        if alone is not None:
            include(document, checked(assemble(alone, Ranks(), built.splits)))
    return document


@contextmanager
def untouched() -> Iterator[None]:
    """Random numbers and threads as they are, afterwards."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def checked(built: Built) -> dict[str, Any]:
    """The check of one training."""
    block, splits = built.recipe.teacher, built.splits
    document = check(
        built.job(Run(Path(), writes=False), Ranks()),
        {"train": splits.train, "valid": splits.valid, "test": splits.test},
        weights="none" if block is None else origin(block),
        exact=exact(built, splits),
    )
    document["warnings"][:0] = doubts(built)
    return document


def origin(block: Teacher) -> str:
    """Where a teacher's weights come from."""
    if block.fit is not None:
        return "fitted"
    if block.checkpoint is not None:
        return "checkpoint"
    return "pretrained" if block.pretrained else "random"


def exact(built: Built, splits: Splits) -> Source | None:
    """The teacher in float32, where it runs in less and is not to be trained first."""
    block = built.recipe.teacher
    if block is None or block.fit is not None or block.precision == "float32":
        return None
    whole = block.model_copy(update={"precision": "float32", "record": False})
    return teacher_source(whole, built.recipe, splits.train)


def include(document: dict[str, Any], fit: dict[str, Any]) -> None:
    """Adds what was found about the teacher's own training."""
    document["fit"] = fit
    for kind in ("problems", "warnings"):
        document[kind] += [f"teacher.fit: {line}" for line in fit[kind]]
    if document["run"] and fit["run"]:
        document["run"]["fit_seconds"] = fit["run"]["seconds"]
        document["run"]["seconds"] += fit["run"]["seconds"]
