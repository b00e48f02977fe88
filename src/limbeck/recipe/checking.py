"""What a recipe makes, looked at before it is trained."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from limbeck.check import check
from limbeck.recipe.build import Built, Splits, assemble, doubts, teacher_source
from limbeck.recipe.chains import Link, links, named, quiet
from limbeck.recipe.graph import graph_of
from limbeck.recipe.networks import Teacher
from limbeck.recipe.optimizing import whole
from limbeck.recipe.pipeline import fitting
from limbeck.recipe.schema import Dense, Recipe
from limbeck.sources import Source
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run


def check_recipe(recipe: Recipe) -> dict[str, Any]:
    """Builds everything that a recipe names, runs one batch, trains nothing; what it found.

    Where the teacher is to be fitted first, `fit` is the check of that training, and `fits` those
    of further sources; of a chain it is the last stage that is checked, and `chain` is the plan.
    `graph` says who teaches whom.
    Nothing is written, and torch's random numbers and threads are afterwards as they were.

    Raises:
        LimbeckError: what cannot be put together.
    """
    with untouched():
        if recipe.chain is None:
            built = assemble(recipe, Ranks())
            document, splits = checked(built), built.splits
        else:
            document, splits = checked_chain(recipe)
        for name in recipe.networks():
            alone = fitting(recipe, name)
            if alone is not None:
                include(document, checked(assemble(alone, Ranks(), splits)), name)
    return {**document, "graph": graph_of(recipe).document()}


def checked_chain(recipe: Recipe) -> tuple[dict[str, Any], Splits]:
    """The check of a chain's last stage, with what was found about the others, and the plan."""
    found, splits = list[tuple[Link, dict[str, Any]]](), None
    with quiet():
        for link in links(recipe, Path(), trained=False):
            with named(link):
                built = assemble(all_heard(link.recipe), Ranks(), splits)
                found.append((link, checked(built)))
                splits = built.splits
    *earlier, (_, document) = found
    document["chain"] = [plan(link, each) for link, each in found]
    for link, each in earlier:
        for kind in ("problems", "warnings"):
            new = [line for line in each[kind] if line not in document[kind]]
            document[kind] += [f"{link.name}: {line}" for line in new]
    if document["run"]:
        document["run"]["chain_seconds"] = sum(row["seconds"] for row in document["chain"][:-1])
        document["run"]["seconds"] += document["run"]["chain_seconds"]
    assert splits is not None
    return document, splits


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
    splits = built.splits
    document = check(
        built.job(Run(Path(), writes=False), Ranks()),
        {"train": splits.train, "valid": splits.valid, "test": splits.test},
        weights={name: origin(block) for name, block in built.recipe.networks().items()},
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
    """The teacher as it is, where it is made faster and is not to be trained first."""
    block = built.recipe.live
    if block is None or block.fit is not None or whole(block) == block:
        return None
    return teacher_source(
        whole(block).model_copy(update={"record": False}), built.recipe, splits.train
    )


def all_heard(recipe: Recipe) -> Recipe:
    """The recipe with no teacher left out, so that all of them are seen."""
    if recipe.dense is None:
        return recipe
    return recipe.model_copy(update={"dense": Dense(of=recipe.dense.of)})


def plan(link: Link, document: dict[str, Any]) -> dict[str, Any]:
    """A stage before it is trained: who learns what from whom, and how long that will take."""
    run = document["run"] or {"steps": None, "seconds": 0.0}
    return {
        "name": link.name,
        "model": link.recipe.student.model,
        "parameters": document["models"]["student"]["parameters"],
        "teachers": list(link.stage.teachers),
        "terms": [term["name"] for term in document["terms"]],
        "steps": run["steps"],
        "seconds": run["seconds"],
    }


def include(document: dict[str, Any], fit: dict[str, Any], name: str) -> None:
    """Adds what was found about a teacher's own training."""
    where = name if name == "teacher" else f"sources.{name}"
    if name == "teacher":
        document["fit"] = fit
    else:
        document.setdefault("fits", {})[name] = fit
    for kind in ("problems", "warnings"):
        document[kind] += [f"{where}.fit: {line}" for line in fit[kind]]
    if document["run"] and fit["run"]:
        document["run"]["fit_seconds"] += fit["run"]["seconds"]
        document["run"]["seconds"] += fit["run"]["seconds"]
