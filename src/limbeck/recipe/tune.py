"""`limbeck tune`: what makes a recipe faster here, measured."""

import sys
from pathlib import Path
from typing import Any

import torch

from limbeck.check.timing import answered
from limbeck.errors import LimbeckError
from limbeck.recipe.build import Built, assemble
from limbeck.recipe.chains import quiet
from limbeck.recipe.checking import untouched
from limbeck.recipe.networks import Optimize
from limbeck.recipe.schema import Recipe
from limbeck.recipe.tune_rows import Row, chosen, document, rows
from limbeck.recipe.tune_student import tried_students, tried_workers
from limbeck.recipe.tune_teacher import tried_teacher
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run


def tune_recipe(recipe: Recipe) -> dict[str, Any]:
    """Times each way to run a recipe's teachers, its students and its data, and chooses.

    An option is chosen if the whole run with it, compiling included, is at least 3 % faster than
    with what the recipe says, and if it sees no more images otherwise than `optimize.loses` allows.
    Nothing is written; torch's random numbers and threads are afterwards as they were.

    Returns:
        `options`: a list of rows for each part; `changes`: the keys to set; `steps` of the run, and
        the `gain` that was measured for them, without reading.

    Raises:
        LimbeckError: a chain, or what cannot be put together.
    """
    if recipe.chain is not None:
        raise LimbeckError("tune is for one training; tune the recipe without its chain")
    with untouched(), quiet():
        try:
            return tuned(assemble(recipe, Ranks()))
        finally:
            if "torch._dynamo" in sys.modules:
                torch.compiler.reset()


def tuned(built: Built) -> dict[str, Any]:
    """The document of an assembled recipe."""
    recipe, steps = built.recipe, steps_of(built)
    batch = next(built.loader.epoch(0))
    inputs, data = recipe.asked.signals(batch, built.device)
    piece = slice(len(inputs) // recipe.train.accumulate)
    inputs, data = inputs[piece], {name: value[piece] for name, value in data.items()}
    found: dict[str, list[Row]] = {}
    gone = {"before": 0.0, "after": 0.0}
    for name, block in recipe.networks().items():
        calls = asked(built, name, steps)
        limit = (block.optimize or Optimize()).loses
        where = "teacher" if block is recipe.teacher else f"sources.{name}"
        found[where] = rows(tried_teacher(built, name, inputs, data), calls, limit)
        count(gone, found[where], calls)
    found["train"] = rows(tried_students(built, batch), steps)
    count(gone, found["train"], steps)
    workers = tried_workers(built)
    if workers:
        found["data"] = rows(workers, steps)
    return {
        "options": {where: document(each) for where, each in found.items()},
        "changes": changes(found),
        "steps": steps,
        "gain": gone["before"] / gone["after"],
        "written": False,
    }


def steps_of(built: Built) -> int:
    """The optimizer steps of a run."""
    settings = built.recipe.train
    steps = settings.epochs * len(built.loader)
    return steps if settings.max_steps is None else min(steps, settings.max_steps)


def asked(built: Built, name: str, steps: int) -> int:
    """How often a run asks a teacher."""
    job = built.job(Run(Path(), writes=False), Ranks())
    source = built.distiller.sources.get(name)
    often = steps if source is None else answered(job, source, steps)
    return often * built.recipe.train.accumulate


def count(gone: dict[str, float], rows: list[Row], calls: int) -> None:
    """Adds the seconds of a run's calls, as it is and as chosen."""
    for when, row in (("before", rows[0]), ("after", chosen(rows))):
        gone[when] += (row.start or 0.0) + calls * (row.seconds or 0.0)


def changes(found: dict[str, list[Row]]) -> dict[str, Any]:
    """The keys whose value in the chosen row is not the recipe's own."""
    return {
        f"{where}.{key}": value
        for where, rows in found.items()
        for key, value in chosen(rows).keys.items()
        if value != rows[0].keys[key]
    }
