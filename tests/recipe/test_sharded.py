"""Recipes whose ranks hold parts: evaluated, loaded and exported as any other; what cannot be."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.raws import problems, raw
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


@pytest.mark.slow
def test_a_teacher_in_parts_leaves_the_same_student_and_evaluation(
    small: Small, tmp_path: Any
) -> None:
    """Beside a whole teacher; the first rank evaluates it after its training."""
    for name, shard in (("whole", False), ("parts", True)):
        ranked(validate(small(train=TRAIN, teacher__shard=shard)), tmp_path / name)
    expected = load_file(tmp_path / "whole/student.safetensors")
    for key, value in load_file(tmp_path / "parts/student.safetensors").items():
        torch.testing.assert_close(value, expected[key], rtol=0, atol=1e-6)
    whole, parts = (
        timeless(json.loads((tmp_path / name / "evaluation.json").read_text()))
        for name in ("whole", "parts")
    )
    assert "agreement" in str(whole)
    assert parts.keys() == whole.keys()
    assert parts["teacher"] == whole["teacher"]


ROUTE = {"kind": "routed", "of": {"teacher": ["ant"], "other": ["bee", "cow"]}}
CNN = {"model": "limbeck.zoo:small_cnn"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"train__parallel": "ddp"}, "teacher.shard needs train.parallel: fsdp, got ddp; set that"),
        ({"teacher__record": True, "data__views": 2}, "got record; leave out shard, or these"),
        ({"teacher__channels_last": True}, "all ranks ask as it is, got channels_last"),
        ({"teacher__optimize": {"engine": "compile"}}, "as it is, got optimize.engine: compile"),
        (
            {"sources": {"other": CNN, "route": ROUTE}},
            "teacher.shard needs all ranks to ask at once, but sources.route asks 'teacher'",
        ),
        (
            {"objective": [{"method": "srrl", "student": "1", "classifier": "10"}]},
            "objective.0: srrl runs a module of the teacher, which must then be whole",
        ),
    ],
)
def test_a_teacher_that_cannot_be_in_parts_is_refused(changes: dict[str, Any], line: str) -> None:
    given = {"train__parallel": "fsdp", "teacher__shard": True, **changes}
    found = problems(validate, raw(**given))
    assert len(found) == 1
    assert line in found[0]
