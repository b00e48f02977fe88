"""The benchmarks run and say what they must; how fast is never asserted."""

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import pytest
import torch

from limbeck import methods
from limbeck.data import Images, Loader
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
