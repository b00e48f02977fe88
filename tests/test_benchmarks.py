"""The benchmarks run and say what they must; how fast is never asserted."""

import math
import subprocess
import sys
from pathlib import Path

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
    rows = {line[:30].strip(): [float(x) for x in line[30:].split()] for line in lines}
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
