"""What the stages of a chain came to."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from limbeck.checkpoint import load_weights
from limbeck.evaluate import evaluate
from limbeck.evaluate.text import shown
from limbeck.recipe.build import Built, student_reader
from limbeck.recipe.chains import Link
from limbeck.recipe.schema import Recipe
from limbeck.recipe.together import Together
from limbeck.tasks import Task
from limbeck.trackers import read_lines


def chronicle(recipe: Recipe, found: Sequence[Link], built: Built) -> dict[str, Any]:
    """What the finished stages came to, and of generations what they say together."""
    born_again = recipe.chain is not None and recipe.chain.generations is not None
    return {
        "stages": [row(link) for link in found],
        "ensemble": ensemble(found, built) if born_again else None,
    }


def scores(told: Mapping[str, Any], task: Task) -> list[str]:
    """A line for the headline score of each stage, and of all together."""
    together = told["ensemble"] and {"name": "all together", **told["ensemble"]}
    measure, rows = task.headline, [*told["stages"], *([together] if together else [])]
    return [
        f"{row['name']}: {measure.label} {shown(measure.shown, row[measure.key])}" for row in rows
    ]


def row(link: Link) -> dict[str, Any]:
    """A finished stage: its score, its cost, who taught it."""
    document = json.loads((link.folder / "evaluation.json").read_text(encoding="utf-8"))
    lines = read_lines(link.folder / "metrics.jsonl")
    done = next(line for line in lines if line["kind"] == "done")
    task = link.recipe.asked
    return {
        "name": link.name,
        "teachers": list(link.stage.teachers),
        "model": link.recipe.student.model,
        **{key: document[key] for key in task.kept},
        "parameters": document["parameters"],
        "steps": done["step"],
        "seconds": done["seconds"],
    }


def ensemble(found: Sequence[Link], built: Built) -> dict[str, Any]:
    """The evaluation of the mean of all generations on the test images."""
    recipe, splits = built.recipe, built.splits
    models = list[nn.Module]()
    for link in found:
        bare = link.recipe.student.model_copy(update={"exits": None})
        alone = link.recipe.model_copy(update={"student": bare})
        reader = student_reader(alone, splits.train)
        load_weights(reader.model, link.folder / "student.safetensors")
        models.append(reader.model)
    together = Together(models, probabilities=recipe.asked.exclusive).to(built.device)
    return evaluate(
        together,
        built.distiller.reader.adapt,
        splits.test,
        workers=recipe.data.workers,
        split=recipe.data.test or recipe.data.valid or "valid",
        task=recipe.asked,
    )
