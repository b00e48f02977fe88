"""The benchmarks run and say what they must; how fast is never asserted."""

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch

from limbeck import Frozen, methods
from limbeck.data import Images, Loader
from limbeck.trackers import read_lines
from limbeck.zoo import resnet20

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
OVERHEAD = BENCHMARKS / "overhead.py"


def test_overhead_compares_the_ways_of_training() -> None:
    command = [sys.executable, str(OVERHEAD), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line[:24].strip(): line[24:].split() for line in out.splitlines()}
    measured = {name: row for name, row in rows.items() if "installed:" not in row}
    for name in ("plain loop", "plain loop again (A/A)", "limbeck"):
        milliseconds, ratio, spread = map(float, measured[name])
        assert milliseconds > 0
        assert ratio > 0
        assert math.isfinite(milliseconds + ratio + spread)
    assert float(measured["plain loop"][1]) == 1
    for name in ("torchdistill", "lightning Trainer"):
        assert name in measured or "'limbeck[frameworks]'" in rows[name]


def test_losses_agree_with_their_plain_twins_and_both_are_measured() -> None:
    command = [sys.executable, str(BENCHMARKS / "losses.py"), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    title, *lines = out.splitlines()
    assert title.split() == ["ms", "plain", "ms", "ratio", "spread", "A/A"]
    rows = {line[:30].strip(): [float(x) for x in line[30:].split()[:5]] for line in lines}
    assert {"kl", "hint", "rkd_angle", "rkd_angle, best native form", "crd"} <= rows.keys()
    for milliseconds, plain, ratio, spread, again in rows.values():
        assert min(milliseconds, plain, ratio, again) > 0
        assert math.isfinite(milliseconds + plain + ratio + spread + again)


def test_linear_kl_agrees_with_float64_and_says_what_it_takes() -> None:
    command = [sys.executable, str(BENCHMARKS / "linear_kl.py"), "--quick", "--repeats", "1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [(line[:44].strip(), line[44:].split()) for line in out.splitlines()]
    assert [name for name, row in rows if row[0] != "seconds"] == [
        *("naive", "linear_kl"),
        *("naive", "kl", "chunked_kl"),
    ]
    for _, row in (pair for pair in rows if pair[1][0] != "seconds"):
        seconds, faster, *_, value, gradient = map(float, row)
        assert min(seconds, faster) > 0
        assert max(value, gradient) < 1e-5


@pytest.fixture(scope="module")
def pair() -> ModuleType:
    with patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        return importlib.import_module("methods_pair")


def test_every_method_of_three_families_is_compared(pair: ModuleType) -> None:
    wanted = {row.name for row in methods.ROWS if row.family in ("logit", "feature", "relation")}
    assert {*pair.OBJECTIVES} == wanted | {pair.LABELS}
    assert {*pair.HEADLINE} < wanted
    assert len({*pair.HEADLINE}) == 12


def test_every_method_teaches_the_student_of_the_pair(pair: ModuleType) -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (16, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.arange(16) % 10, tuple("abcdefghij"))
    world = pair.World(resnet20().eval(), images, 8, Loader(images, 8, seed=0))
    batch = next(world.loader.epoch(0))
    data = {"target": batch.target, "ids": batch.ids, "view": batch.view}
    for name in pair.OBJECTIVES:
        student = pair.Plain()
        made = pair.distiller(name, world, student, None)
        inputs = (batch.images, batch.target) if name == "jacobian" else batch.images
        made.prepare(inputs, **data)
        made.advance(0.0)
        made(inputs, **data).loss.backward()
        gradient = student.stem[0][0].weight.grad
        assert gradient.isfinite().all(), name
        assert gradient.count_nonzero() > 0, name


@pytest.fixture(scope="module")
def schemes() -> ModuleType:
    with patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        return importlib.import_module("schemes")


@pytest.fixture(scope="module")
def world(schemes: ModuleType) -> Any:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (16, 3, 32, 32), generator=generator, dtype=torch.uint8)
    images = Images(pixels, torch.arange(16) % 8, tuple("abcdefghij"))
    networks = {name: make().eval() for name, make in schemes.TEACHERS.items()}
    routes = schemes.best_of_classes([*networks.values()], images)

    def source(name: str) -> Frozen:
        return Frozen(networks[name], inputs=schemes.VIEW)

    return schemes.World(images, images, source, routes, seed=0, epochs=1, batch_size=8)


def test_every_scheme_trains_as_many_steps_and_has_its_rows(
    schemes: ModuleType, world: Any, tmp_path: Path
) -> None:
    settings = schemes.STUDENTS.model_copy(update={"epochs": 1})
    splits = {"valid": world.valid, "test": world.valid}
    runs = {}
    for arm, stages in schemes.ARMS.items():
        trained = schemes.run_arm(stages, world, settings, tmp_path / arm)
        scores = {who: schemes.on_both(network, splits) for who, network in trained.items()}
        runs[arm] = {"0": {"scores": scores}}
        for stage in stages:
            *_, done = read_lines(tmp_path / arm / stage / "metrics.jsonl")
            assert done["step"] == (6 if arm == "three times as long" else 2), arm
    rows = schemes.judged(runs, {})
    assert len(rows) == len(sys.modules["schemes_rows"].ROWS)
    assert all(row["gain"] == pytest.approx(row["ours"] - row["theirs"], abs=2e-3) for row in rows)


def test_the_baseline_is_the_student_alone_bit_for_bit(
    schemes: ModuleType, world: Any, tmp_path: Path
) -> None:
    settings = schemes.STUDENTS.model_copy(update={"epochs": 1})
    apart = schemes.run_arm(schemes.ARMS["apart"], world, settings, tmp_path / "apart")
    alone = schemes.run_arm({"alone": schemes.labels}, world, settings, tmp_path / "alone")
    theirs = alone["student"].state_dict()
    for name, value in apart["a"].state_dict().items():
        assert value.equal(theirs[name]), name
    assert not apart["b"].fc.weight.equal(apart["a"].fc.weight)


def test_overlapping_batches_begin_with_the_end_of_the_one_before(
    schemes: ModuleType, world: Any
) -> None:
    loader = schemes.ARMS["dlb"]["student"](world, {}).loader
    first, second = loader.epoch(0)
    third, _ = loader.epoch(1)
    assert second.ids[:4].equal(first.ids[4:])
    assert third.ids[:4].equal(second.ids[4:])
    assert len({*first.ids[4:].tolist(), *second.ids[4:].tolist()}) == 8
    assert (second.view[:4] != first.view[4:]).all()


def test_what_every_row_costs_is_measured(schemes: ModuleType, world: Any) -> None:
    ways = dict(schemes.trainings(world))
    assert {*ways} >= {name for row in sys.modules["schemes_rows"].ROWS for name in row.trained}
    one, four = (schemes.mebibytes(ways[name]) for name in ("labels only", "apart"))
    assert 3 * one < four < 5 * one
    assert schemes.times(ways["apart"], ways["labels only"], 2) > 0
