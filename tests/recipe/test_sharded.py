"""Recipes whose ranks hold parts: evaluated, loaded and exported as any other."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.runs import ranked, timeless

from limbeck.recipe import evaluate_run, export_run, validate

Small = Callable[..., dict[str, Any]]
TRAIN = {"epochs": 2, "batch_size": 6, "lr": 0.05, "parallel": "fsdp"}


@pytest.mark.slow
def test_students_in_parts_are_evaluated_and_shipped(small: Small, tmp_path: Any) -> None:
    """Two that teach one another; what is shipped are whole networks."""
    block = {"model": "limbeck.zoo:mlp", "options": {"hidden": 4, "channels": 3, "size": 8}}
    soft = {"loss": "kl", "source": "peers"}
    recipe = small(
        students={"a": block, "b": block}, objective=[{"loss": "truth"}, soft], train=TRAIN
    )
    del recipe["student"], recipe["teacher"]
    ranks = ranked(validate(recipe), tmp_path / "run")
    assert ranks[0].keys() == ranks[1].keys()
    document = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert timeless(evaluate_run(tmp_path / "run")) == timeless(document)
    export_run(tmp_path / "run", tmp_path / "shipped", onnx=False)
    whole = load_file(tmp_path / "shipped/student.safetensors")
    for name, value in load_file(tmp_path / "run/student.safetensors").items():
        halves = [rank[f"distillers.a.student.{name}"] for rank in ranks]
        assert torch.equal(torch.cat(halves), value)
        assert torch.equal(whole[name], value)
