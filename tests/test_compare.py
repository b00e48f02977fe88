"""Paired differences, their interval, the verdict, and what a comparison leaves on disk."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from limbeck.compare import compare, gain, slug, t_quantile, table
from limbeck.errors import LimbeckError

each = pytest.mark.parametrize

T_TABLE = {
    1: 12.7062,
    2: 4.3027,
    3: 3.1824,
    4: 2.7764,
    5: 2.5706,
    7: 2.3646,
    9: 2.2622,
    19: 2.0930,
    29: 2.0452,
    60: 2.0003,
    120: 1.9799,
}


@each(("freedom", "quantile"), T_TABLE.items())
def test_the_quantile_is_that_of_the_printed_table(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-5)


@each(("level", "quantile"), [(0.95, 2.0150), (0.99, 3.3649), (0.995, 4.0321), (0.75, 0.7267)])
def test_the_quantile_of_five_at_other_levels(level: float, quantile: float) -> None:
    assert t_quantile(5, level) == pytest.approx(quantile, abs=6e-5)


def test_an_interval_against_hand_values() -> None:
    """Differences 3, 4, 5 points: mean 4, s = 1, so 4 -+ 4.3027 / sqrt(3)."""
    found = gain("distilled", "labels only", [0.93, 0.92, 0.91], [0.90, 0.88, 0.86])
    half = 4.3027 / math.sqrt(3) / 100
    assert found.per_seed == pytest.approx([0.03, 0.04, 0.05])
    assert (found.mean, found.low, found.high) == pytest.approx(
        (0.04, 0.04 - half, 0.04 + half), abs=1e-6
    )
    assert found.verdict == "gain"
    assert found.text() == (
        "gain: distilled beats labels only by +4.00 points (95 % interval +1.52 to +6.48, seeds: 3)"
    )


def test_seeds_are_paired() -> None:
    """Seeds differ by far more than arms do; the differences do not."""
    baseline = [0.5, 0.7, 0.9]
    found = gain("a", "b", [score + 0.01 for score in baseline], baseline)
    assert found.verdict == "gain"
    assert (found.low, found.high) == pytest.approx((0.01, 0.01))


VERDICTS: list[tuple[Sequence[float], str, str]] = [
    ([0.03, 0.04, 0.05], "gain", "gain: a beats b by +4.00 points"),
    ([-0.03, -0.04, -0.05], "loss", "loss: a loses to b by 4.00 points"),
    ([0.05, -0.01, 0.02], "no gain shown", "no gain shown: a against b by +2.00 points"),
    ([0.0, 0.0, 0.0], "no gain shown", "no gain shown: a against b by +0.00 points"),
    ([0.05], "no gain shown", "no gain shown: a against b by +5.00 points (one seed, no interval"),
    ([0.02, 0.02], "gain", "gain: a beats b by +2.00 points"),
]


@each(("differences", "kind", "text"), VERDICTS)
def test_the_verdict_falls_whichever_way_the_interval_lies(
    differences: Sequence[float], kind: str, text: str
) -> None:
    found = gain("a", "b", list(differences), [0.0] * len(differences))
    assert found.verdict == kind
    assert found.text().startswith(text)


def test_arms_with_other_numbers_of_seeds_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="zip"):
        gain("a", "b", [0.1, 0.2], [0.1])


@each(
    ("arm", "folder"),
    [("hard pseudo-labels", "hard-pseudo-labels"), ("Labels  only", "labels-only")],
)
def test_an_arm_has_a_folder(arm: str, folder: str) -> None:
    assert slug(arm) == folder


# ---- a comparison on disk


class Runs:
    """Runs that take no time: scores by arm and seed, the teacher's always 0.95."""

    def __init__(self, scores: dict[str, list[float]]) -> None:
        self.scores = scores
        self.made: list[tuple[str, int]] = []
        self.stop: tuple[str, int] | None = None

    def __call__(self, arm: str, seed: int, folder: Path) -> None:
        if (arm, seed) == self.stop:
            raise KeyboardInterrupt
        if (folder / "evaluation.json").exists():
            return
        self.made.append((arm, seed))
        folder.mkdir(parents=True)
        cost = {"parameters": 10, "flops": 20, "bytes": 40, "latency_ms": 0.5}
        teacher = None if arm == "labels only" else {"top1": 0.95, **cost, "parameters": 100}
        score = {"top1": self.scores[arm][seed], "nll": 0.5, "ece": 0.1, "teacher": teacher, **cost}
        (folder / "evaluation.json").write_text(json.dumps(score))
        done = {"kind": "done", "step": 30, "seconds": 1.5, "images": 180}
        (folder / "metrics.jsonl").write_text(json.dumps(done) + "\n")


SCORES = {
    "labels only": [0.90, 0.88, 0.86],
    "hard pseudo-labels": [0.91, 0.90, 0.85],
    "distilled": [0.93, 0.92, 0.91],
}


def compared(runs: Runs, out: Path, seeds: int = 3) -> dict[str, Any]:
    return compare(
        list(runs.scores),
        range(seeds),
        runs,
        out,
        baseline="labels only",
        subject="distilled",
        recipe="digits:train",
    )


def test_a_comparison_holds_every_arm_every_seed_and_every_pair(tmp_path: Path) -> None:
    document = compared(Runs(SCORES), tmp_path)
    assert json.loads((tmp_path / "compare.json").read_text()) == document
    assert document["verdict"]["kind"] == "gain"
    assert document["seeds"] == [0, 1, 2]
    arm = document["arms"]["distilled"]
    assert (arm["mean"], arm["std"]) == pytest.approx((0.92, 0.01))
    assert [run["folder"] for run in arm["runs"]] == [f"arms/distilled/seed-{k}" for k in range(3)]
    assert {(run["steps"], run["images"], run["seconds"]) for run in arm["runs"]} == {
        (30, 180, 1.5)
    }
    pairs = [(row["arm"], row["against"]) for row in document["gains"]]
    assert pairs == [
        ("hard pseudo-labels", "labels only"),
        ("distilled", "labels only"),
        ("distilled", "hard pseudo-labels"),
    ]
    assert document["teacher"]["mean"] == pytest.approx(0.95)
    assert (document["teacher"]["parameters"], document["student"]["parameters"]) == (100, 10)


def test_a_loss_is_said_first(tmp_path: Path) -> None:
    scores = {**SCORES, "distilled": [0.85, 0.84, 0.80]}
    document = compared(Runs(scores), tmp_path)
    assert document["verdict"]["kind"] == "loss"
    assert table(document).startswith("loss: distilled loses to labels only by 5.00 points")


def test_one_seed_has_no_interval_and_the_document_stays_json(tmp_path: Path) -> None:
    document = compared(Runs(SCORES), tmp_path, seeds=1)
    text = (tmp_path / "compare.json").read_text()
    assert "Infinity" not in text
    assert "NaN" not in text
    assert document["gains"][0]["low"] is None
    assert document["arms"]["distilled"]["std"] == 0.0
    assert "one seed, no interval" in table(document)


def test_the_table_has_a_line_for_each_arm_and_each_pair(tmp_path: Path) -> None:
    lines = table(compared(Runs(SCORES), tmp_path)).splitlines()
    assert lines[0].startswith("gain: distilled beats labels only by +4.00 points")
    rows = {line.split("  ")[0]: line for line in lines[3:6]}
    assert list(rows) == list(SCORES)
    assert "92.00 ± 1.00" in rows["distilled"]
    assert "93.00 92.00 91.00" in rows["distilled"]
    assert lines[-2].startswith(
        "distilled - labels only: +4.00 points (95 % interval +1.52 to +6.48"
    )


def test_a_stopped_comparison_makes_what_is_left(tmp_path: Path) -> None:
    runs = Runs(SCORES)
    runs.stop = ("distilled", 1)
    with pytest.raises(KeyboardInterrupt):
        compared(runs, tmp_path)
    assert not (tmp_path / "compare.json").exists()
    made, runs.stop = list(runs.made), None
    document = compared(runs, tmp_path)
    assert runs.made[: len(made)] == made
    everything = [(arm, seed) for seed in range(3) for arm in SCORES]
    assert runs.made == everything
    assert document["arms"].keys() == SCORES.keys()


def test_a_seed_more_keeps_the_others(tmp_path: Path) -> None:
    runs = Runs(SCORES)
    compared(runs, tmp_path, seeds=2)
    compared(runs, tmp_path, seeds=3)
    assert runs.made[-3:] == [(arm, 2) for arm in SCORES]
    assert len(runs.made) == 9


def test_a_run_without_an_end_is_named(tmp_path: Path) -> None:
    runs = Runs(SCORES)
    compared(runs, tmp_path, seeds=1)
    (tmp_path / "arms/distilled/seed-0/metrics.jsonl").write_text("")
    with pytest.raises(LimbeckError, match=r"distilled/seed-0 must hold a finished run; remove it"):
        compared(runs, tmp_path, seeds=1)
