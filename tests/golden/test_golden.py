"""Every golden entry whose method limbeck has, and the harness that judges it."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.golden import harness
from tests.golden.golden_dense import DISPUTED

from limbeck import losses

HERE = Path(__file__).parent
ENTRIES = [
    entry
    for name in ("features.json", "logits-relations.json")
    for entry in harness.load(HERE / name)
]
KNOWN = [entry for entry in ENTRIES if entry["method"] in harness.METHODS]
KD = next(entry for entry in KNOWN if entry["method"] == "kd")
AT = next(entry for entry in KNOWN if entry["method"] == "at")


def named(entry: dict[str, Any]) -> str:
    return entry["fixture_id"]


def test_the_files_are_whole_and_no_method_is_misspelt() -> None:
    assert len(ENTRIES) == 373 + 186
    assert {entry["method"] for entry in KNOWN} == set(harness.METHODS)


def test_the_generator_reproduces_every_input_of_both_files() -> None:
    arrays = [x for entry in ENTRIES for x in harness.build(entry["inputs"]).values()]
    assert len(arrays) == sum(len(entry["inputs"]) for entry in ENTRIES)


@pytest.mark.parametrize("entry", [e for e in KNOWN if named(e) not in DISPUTED], ids=named)
def test_value_and_gradient_in_float64(entry: dict[str, Any]) -> None:
    assert harness.judge(entry) == ""


@pytest.mark.parametrize("entry", [e for e in KNOWN if named(e) in DISPUTED], ids=named)
def test_a_gradient_that_contradicts_its_own_entry_is_zero(entry: dict[str, Any]) -> None:
    assert "0 with zero gradient at equality" in entry["notes"]
    assert entry["authors_grad_l2"] == 0
    value, grads = harness.evaluate(entry)
    assert value == entry["house_value"] == 0
    assert not grads["student"].any()


@pytest.mark.parametrize("entry", KNOWN, ids=named)
def test_value_in_float32(entry: dict[str, Any]) -> None:
    value, grads = harness.evaluate(entry, torch.float32)
    house = entry["house_value"]
    nets = max(1, sum(name.startswith("net") for name in entry["inputs"]))
    temperature = entry["params"].get("temperature", entry["params"].get("T", 1.0))
    floor = 1e-5 * temperature**2 * nets if house == 0 else 0.0
    assert value == pytest.approx(house, rel=1e-4, abs=floor)
    assert all(np.isfinite(grad).all() and grad.dtype == np.float32 for grad in grads.values())


def changed(entry: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {**copy.deepcopy(entry), **keys}


def with_grad(entry: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return changed(entry, house_grad={"student": {**entry["house_grad"]["student"], **keys}})


def test_evaluate_returns_the_value_and_gradients_as_arrays() -> None:
    value, grads = harness.evaluate(KD)
    assert isinstance(value, float)
    assert list(grads) == ["student"]
    assert isinstance(grads["student"], np.ndarray)
    assert grads["student"].dtype == np.float64


@pytest.mark.parametrize(
    ("entry", "quantity"),
    [
        (changed(KD, house_value=KD["house_value"] * (1 + 1e-8)), "value: got 6.3"),
        (changed(KD, house_value=math.nan), "value"),
        (changed(KD, rtol=1e-12, house_value=KD["house_value"] * (1 + 1e-10)), "value"),
        (with_grad(KD, l2=KD["house_grad"]["student"]["l2"] * (1 + 1e-6)), "grad student l2"),
        (with_grad(KD, max_abs=0.5), "grad student max_abs"),
        (with_grad(KD, shape=[10, 4]), "grad student shape"),
        (with_grad(KD, full=[1.0, *KD["house_grad"]["student"]["full"][1:]]), "grad student[0]"),
        (with_grad(AT, entries=[[37, 0.0]]), "grad student[37]: got -0.0557"),
        (changed(KD, params={"temperature": 3.0}), "value"),
        (changed(KD, inputs={"student": {**KD["inputs"]["student"], "sum": 0.0}}), "ValueError"),
        (changed(KD, inputs={"student": {"kind": "odd"}}), "ValueError: unknown kind"),
        (changed(KD, inputs={"student": KD["inputs"]["student"]}), "KeyError: 'teacher'"),
    ],
)
def test_a_wrong_entry_fails_and_says_where(entry: dict[str, Any], quantity: str) -> None:
    assert harness.judge(entry).startswith(quantity)


@pytest.mark.parametrize(
    "entry",
    [
        changed(KD, house_value=0.0, also_acceptable=[{"value": KD["house_value"], "why": "-"}]),
        changed(KD, rtol=1e-3, house_value=KD["house_value"] * (1 + 1e-4)),
        changed(KD, house_grad={"student": "finite"}),
        changed(KD, house_grad={}, params={**KD["params"], "colour": "red"}, colour="red"),
        {key: KD[key] for key in ("method", "inputs", "params", "house_value")},
    ],
)
def test_a_lenient_or_bare_entry_passes(entry: dict[str, Any]) -> None:
    assert harness.judge(entry) == ""


def test_three_teachers_weigh_the_same_in_float64() -> None:
    inputs = {
        name: {"kind": "normal", "rng_seed": seed, "shape": [4, 5], "scale": 3.0}
        for seed, name in enumerate(("student", "teacher0", "teacher1", "teacher2"))
    }
    student, *teachers = harness.build(inputs).values()
    value, _ = harness.evaluate({"method": "mt_mean_logit", "inputs": inputs})
    right = losses.kl(student, sum(teachers) / 3)
    assert value == pytest.approx(float(right), rel=1e-12)


def test_a_gradient_that_is_not_finite_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"kd": lambda x, params: (x["student"] * 0).sqrt().sum() + KD["house_value"]}
    monkeypatch.setattr(harness, "METHODS", broken)
    entry = changed(KD, house_grad={"student": "finite"})
    assert harness.judge(entry) == "grad student: got 40 non-finite, expected finite"


def test_command_line_prints_what_fails_and_what_is_unknown(tmp_path: Path) -> None:
    wrong = changed(KD, fixture_id="kd-wrong", house_value=1.0)
    unknown = changed(KD, fixture_id="new-00", method="new")
    path = tmp_path / "small.json"
    path.write_text(json.dumps({"fixtures": [KD, wrong, unknown]}))
    ran = subprocess.run(
        [sys.executable, str(HERE / "harness.py"), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1, ran.stderr
    bad, new, total = ran.stdout.splitlines()
    assert bad.startswith("kd-wrong: value: got 6.312")
    assert bad.endswith("expected 1.0")
    assert new == "new-00: unknown method 'new'"
    assert total == "3 entries: 1 passed, 1 failed, 1 unknown"


def test_unknown_methods_alone_do_not_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "unknown.json"
    path.write_text(json.dumps({"fixtures": [changed(KD, method="new")]}))
    assert harness.main([str(path), str(path)]) == 0
    assert capsys.readouterr().out.endswith("2 entries: 0 passed, 0 failed, 2 unknown\n")
