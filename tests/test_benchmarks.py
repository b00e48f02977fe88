"""The benchmarks run and say what they must; how fast is never asserted."""

import importlib
import math
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from limbeck import Frozen, methods
from limbeck.compare import slug
from limbeck.data import Images, Loader
from limbeck.trackers import read_lines
from limbeck.train.run import Run
from limbeck.zoo import resnet8x4, resnet20

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
    rows = {line[:50].strip(): [float(x) for x in line[50:].split()[:5]] for line in lines}
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
    knows = schemes.known_of_classes([*networks.values()], images)

    def source(name: str) -> Frozen:
        return Frozen(networks[name], inputs=schemes.VIEW)

    return schemes.World(images, images, source, knows, seed=0, epochs=1, batch_size=8)


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


def fetched(name: str) -> ModuleType:
    """A benchmark as a module."""
    with patch.object(sys, "path", [str(BENCHMARKS), *sys.path]):
        return importlib.import_module(name)


def test_views_are_recycled_in_as_many_steps_as_new_ones(tmp_path: Path) -> None:
    views, images = fetched("views"), fetched("noise").noise(32)
    splits = dict.fromkeys(("train", "valid", "test"), images)
    seen: dict[str, int] = {}
    for arm in views.ARMS:
        with patch.object(Frozen, "__call__", autospec=True, side_effect=Frozen.__call__) as asked:
            views.run_one(arm, 0, splits, views.QUICK, tmp_path)
        seen[arm] = asked.call_count
        *_, done = read_lines(tmp_path / "arms" / slug(arm) / "seed-0" / "metrics.jsonl")
        assert done["step"] == views.QUICK.steps == 12
    steps = views.QUICK.steps // views.QUICK.epochs
    once = seen[views.LABELS]
    assert once == 0
    assert seen["every view new"] - seen["4 views"] == 2 * steps
    assert seen["4 views"] - seen["1 view"] == 3 * steps
    found = views.judged(views.outcomes(tmp_path, {}), views.QUICK)
    assert [row["passes"] for row in found["arms"].values()] == [0, 6, 4, 1]
    assert [(row["arm"], row["against"]) for row in found["gains"]] == views.PAIRS
    assert "4 views - every view new" in views.table(found)
    with patch.object(views, "run_one") as run:
        views.run_part(splits, views.QUICK, tmp_path, "0/1", {})
    assert run.call_count == 8, "the other two seeds"


def test_a_training_of_the_views_goes_on_after_its_last_epoch(tmp_path: Path) -> None:
    views, images = fetched("views"), fetched("noise").noise(32)
    splits = dict.fromkeys(("train", "valid", "test"), images)
    views.run_one("4 views", 0, splits, views.QUICK, tmp_path / "whole")
    saved = [Run.save, Run.save, KeyboardInterrupt]

    def save(run: Run, *state: Any) -> None:
        now = saved.pop(0)
        if now is KeyboardInterrupt:
            raise KeyboardInterrupt
        now(run, *state)

    with patch.object(Run, "save", save), pytest.raises(KeyboardInterrupt):
        views.run_one("4 views", 0, splits, views.QUICK, tmp_path / "cut")
    views.run_one("4 views", 0, splits, views.QUICK, tmp_path / "cut")
    whole, cut = (
        load_file(tmp_path / name / "arms" / "4-views" / "seed-0" / "student.safetensors")
        for name in ("whole", "cut")
    )
    assert all(value.equal(cut[name]) for name, value in whole.items())


def test_an_epoch_is_the_same_job_by_hand_by_limbeck_and_from_a_store(tmp_path: Path) -> None:
    epoch, size = fetched("epoch"), fetched("epoch").Size(2, 1, 4)
    images = fetched("noise").noise(size.steps * size.batch)
    assert epoch.write_store(images, size, tmp_path / "store") > 0
    students = {}
    for name in (epoch.HAND, "limbeck", epoch.STORED):
        torch.manual_seed(0)
        students[name] = student = resnet8x4()
        with patch.object(epoch, "resnet8x4", lambda student=student: student):
            way = epoch.way_of(name, tmp_path / "store")
        for first in range(size.steps):
            assert epoch.turn(way, epoch.loader_of(images, size), first, size.block) > 0
    torch.manual_seed(0)
    fresh, exact = resnet8x4().fc.weight, students[epoch.HAND].fc.weight
    moved = (exact - fresh).norm()
    assert moved > 0
    assert (students["limbeck"].fc.weight - exact).norm() < 1e-4 * moved
    assert (students[epoch.STORED].fc.weight - exact).norm() < 1e-2 * moved, "half precision"


@pytest.mark.slow
def test_an_epoch_is_timed_and_its_memory_measured_by_each_way() -> None:
    command = [sys.executable, str(BENCHMARKS / "epoch.py"), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line[:24].strip(): line[24:].split() for line in out.splitlines()[1:-1]}
    measured = {name: row for name, row in rows.items() if "installed:" not in row}
    assert {"plain loop", "plain loop again (A/A)", "limbeck", "limbeck, stored"} <= {*measured}
    for name, row in measured.items():
        assert min(map(float, row[:2])) > 0
        assert len(row) == (3 if "A/A" in name else 5)
    for name in ("torchdistill", "lightning Trainer"):
        assert name in measured or "'limbeck[frameworks]'" in rows[name]


def test_the_plain_encoder_is_the_one_of_torch() -> None:
    torch.manual_seed(0)
    ours, x = fetched("encoder").Layer(128), torch.randn(2, 5, 128)
    theirs = nn.TransformerEncoderLayer(128, 2, 512, dropout=0.0, batch_first=True)
    pairs = {"qkv": "self_attn.in_proj_", "out": "self_attn.out_proj.", "up": "linear1."}
    pairs |= {"down": "linear2.", "norm1": "norm1.", "norm2": "norm2."}
    state = {
        f"{name}.{kind}": theirs.get_parameter(f"{their}{kind}")
        for name, their in pairs.items()
        for kind in ("weight", "bias")
    }
    ours.load_state_dict(state)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.slow
def test_faster_teachers_are_timed_and_compared_with_the_exact_one() -> None:
    command = [sys.executable, str(BENCHMARKS / "teachers.py"), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = {line[:56].strip(): line[56:].split() for line in out.splitlines()[1:]}
    measured = {name: list(map(float, row)) for name, row in rows.items() if "needs" not in row}
    assert measured["float32"][0] == 1
    assert measured["float32"][3] == 0
    best = measured["bfloat16, batch norms folded, channels last"]
    assert 1e-5 < best[3] < 0.1
    assert measured["ONNX Runtime, float32"][3] < 1e-4
    for row in measured.values():
        assert min(row[:2]) > 0


@pytest.mark.slow
def test_whole_steps_are_timed_before_and_after_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    teachers = fetched("teachers")
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)  # which would take a minute
    pair = teachers.Pair("limbeck.zoo:resnet20", "limbeck.zoo:resnet20", 32, 4)
    found = teachers.tuned(pair, 3, images=40)
    assert {key.partition(".")[0] for key in found["changes"]} <= {"teacher", "train"}
    assert found["steps"] > 1000
    assert (found["told"] > 1) == bool(found["changes"])
    assert found["faster"] > 0
    assert found["milliseconds"].keys() == {"before", "after"}
    assert "after tune" in teachers.shown("a pair", found)


@pytest.mark.slow
def test_pieces_change_what_has_batch_statistics_and_nothing_else() -> None:
    command = [sys.executable, str(BENCHMARKS / "batchnorm.py"), "--quick"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    apart = [
        (line.split()[2], *map(float, re.findall(r"(\S+) at (?:first|last)", line)))
        for line in out.splitlines()
        if line.startswith("batch norm")
    ]
    assert [normed for normed, *_ in apart] == ["True"] * 3 + ["False"] * 3
    assert all(max(found) < 1e-12 for normed, *found in apart if normed == "False")
    assert all(min(found) > 1e-6 for normed, *found in apart if normed == "True")
