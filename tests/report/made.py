"""Runs and comparisons that never were, made after the contracts of their JSON."""

import json
import random
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

DIGITS = tuple(str(digit) for digit in range(10))
ARMS = {
    "labels only": 0.862,
    "hard pseudo-labels": 0.905,
    "labelled images": 0.884,
    "distilled": 0.911,
}
STEPS, SEEDS = 310, (0, 1, 2)
Json = dict[str, Any]


def scores(top1: float, seed: int, classes: tuple[str, ...] = DIGITS, each: int = 250) -> Json:
    """An evaluation that a model of this accuracy could have."""
    draw = random.Random(seed)
    matrix = []
    for truth in range(len(classes)):
        right = min(1.0, max(0.0, top1 + 0.03 * draw.gauss(0, 1) - 0.04 * (truth % 3 - 1)))
        others = [draw.random() ** 4 * (guess != truth) for guess in range(len(classes))]
        row = [round(each * (1 - right) * other / sum(others)) for other in others]
        row[truth] = each - sum(row)
        matrix.append(row)
    right = sum(row[i] for i, row in enumerate(matrix))
    names = zip(classes, (row[i] / each for i, row in enumerate(matrix)), strict=True)
    return {
        "split": "test",
        "examples": each * len(classes),
        "top1": right / (each * len(classes)),
        "top5": 0.99,
        "nll": 0.9 * (1 - top1) / 0.3,
        "ece": 0.2 * (1 - top1),
        "per_class": {name: {"top1": value, "count": each} for name, value in names},
        "classes": list(classes),
        "reliability": [reliable(i, top1) for i in range(15)],
        "confusion": matrix,
        "parameters": 51_234,
        "flops": 1_020_000,
        "bytes": 204_936,
        "latency_ms": 0.41,
        "throughput": 52_000.0,
    }


def reliable(index: int, top1: float) -> Json:
    low, high = index / 15, (index + 1) / 15
    if index == 0:
        return {"low": low, "high": high, "count": 0, "confidence": None, "accuracy": None}
    sure = (low + high) / 2
    accuracy = max(0.0, sure - 0.3 * (1 - top1) * (index / 15) - 0.02 * (index % 2))
    return {
        "low": low,
        "high": high,
        "count": 4 + index**3 // 2,
        "confidence": sure,
        "accuracy": accuracy,
    }


def teacher_scores(seed: int, classes: tuple[str, ...] = DIGITS) -> Json:
    costs = {
        "parameters": 421_642,
        "flops": 8.1e6,
        "bytes": 1_686_568,
        "latency_ms": 1.32,
        "throughput": 11_800.0,
    }
    return scores(0.926, seed + 50, classes) | costs


def metrics(top1: float, seed: int, distils: bool) -> str:
    draw = random.Random(seed)
    lines: list[Json] = []
    for step in range(1, STEPS + 1):
        progress = step / STEPS
        truth = 2.3 * (0.06 + 0.94 * (1 - progress) ** 3) + 0.08 * abs(draw.gauss(0, 1))
        parts = {"truth": truth / 2, "kl": 0.8 * truth + 0.2} if distils else {"truth": truth}
        lines.append(
            {
                "kind": "train",
                "step": step,
                "epoch": (step - 1) // 31,
                "progress": progress,
                "loss": sum(parts.values()),
                "parts": parts,
                "lr": 0.1 * min(10 * progress, 1.1 * (1 - progress) + 0.01),
                "images_per_second": 812.0,
            }
        )
        if step % 31 == 0:
            value = top1 - 0.5 * (1 - progress) ** 2 + 0.006 * draw.gauss(0, 1)
            lines.append(
                {"kind": "eval", "step": step, "epoch": step // 31, "split": "valid", "top1": value}
            )
    lines.append({"kind": "done", "step": STEPS, "seconds": 42.1})
    return "".join(json.dumps(line) + "\n" for line in lines)


def make_run(
    folder: Path,
    top1: float = 0.91,
    seed: int = 0,
    classes: tuple[str, ...] = DIGITS,
    distils: bool = True,
) -> Json:
    """A finished run; returns its evaluation."""
    folder.mkdir(parents=True)
    teacher = teacher_scores(seed, classes)
    student = scores(top1, seed, classes)
    evaluation = student | {"teacher": teacher, "agreement": 0.953, "fidelity_kl": 0.0312}
    evaluation["retention"] = student["top1"] / teacher["top1"]
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    (folder / "metrics.jsonl").write_text(metrics(top1, seed, distils))
    (folder / "recipe.yaml").write_text("data:\n  train: digits:train\n  labels: 200\nseed: 0\n")
    (folder / "environment.json").write_text(
        json.dumps({"versions": {"torch": "2.9.0", "python": "3.11"}, "threads": 2, "seed": seed})
    )
    return evaluation


def arm_record(folder: Path, name: str, top1: float) -> Json:
    runs: list[Json] = []
    for seed in SEEDS:
        where = f"arms/{name.replace(' ', '-')}/seed-{seed}"
        found = make_run(
            folder / where, top1 + 0.003 * (seed - 1), seed, distils=name != "labels only"
        )
        spent = {"seconds": 3.1 + len(name) / 9, "steps": 620, "images": 39_680}
        runs.append(
            {"seed": seed, "folder": where, "top1": found["top1"], "nll": found["nll"]} | spent
        )
    values = [run["top1"] for run in runs]
    seconds = fmean(run["seconds"] for run in runs)
    return {"runs": runs, "mean": fmean(values), "std": stdev(values), "seconds": seconds}


def gain_record(arms: Json, arm: str, against: str) -> Json:
    pairs = zip(arms[arm]["runs"], arms[against]["runs"], strict=True)
    each = [ours["top1"] - theirs["top1"] for ours, theirs in pairs]
    half = 4.303 * stdev(each) / len(each) ** 0.5 + 0.008
    mean = fmean(each)
    ends = {"low": mean - half, "high": mean + half}
    return {"arm": arm, "against": against, "per_seed": each, "mean": mean} | ends


def make_comparison(folder: Path) -> Json:
    """A finished comparison of four arms and three seeds; returns its record."""
    folder.mkdir(parents=True)
    arms = {name: arm_record(folder, name, top1) for name, top1 in ARMS.items()}
    gains = [gain_record(arms, arm, "labels only") for arm in ARMS if arm != "labels only"]
    gains.append(gain_record(arms, "distilled", "hard pseudo-labels"))
    cost = {"parameters": 51_234, "flops": 1_020_000, "bytes": 204_936, "latency_ms": 0.41}
    teachers = [{"seed": seed, "top1": teacher_scores(seed)["top1"]} for seed in SEEDS]
    record = {
        "metric": "top1",
        "seeds": list(SEEDS),
        "recipe": "digits",
        "baseline": "labels only",
        "subject": "distilled",
        "verdict": {
            "kind": "gain",
            "text": "gain: distilled beats labels only by "
            f"+{100 * gains[2]['mean']:.2f} points (95 % interval "
            f"+{100 * gains[2]['low']:.2f} to +{100 * gains[2]['high']:.2f}, 3 seeds)",
        },
        "arms": arms,
        "gains": gains,
        "teacher": {
            "runs": teachers,
            "mean": fmean(run["top1"] for run in teachers),
            "parameters": 421_642,
            "flops": 8.1e6,
            "bytes": 1_686_568,
            "latency_ms": 1.32,
        },
        "student": cost,
    }
    (folder / "compare.json").write_text(json.dumps(record))
    return record
