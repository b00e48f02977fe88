"""What each loss costs, forward and backward, beside the plain PyTorch expression of its maths.

    python benchmarks/losses.py [NAME ...] [--rounds N] [--quick] [--write]

On one thread, the loss and its twin of `twins.py` take turns in random order; the loss runs a third
time as its own twin (A/A), which says how far the machine can be trusted. The median of the rounds'
ratios counts; the spread is half the distance between their quartiles. Twins must agree to 1e-3 in
value and gradient, or nothing is measured. Losses on logits are timed at 64 rows of 100 classes,
which is so little that Python counts, and at 256 of 1,000. Targets: 1.1 for each; a fifth for CRD,
whose twin collects the rows of 4096 negatives of each sample from a memory of 50,000. Where a loss
holds what its twin does not, and that costs more than the target, `DEARER` says what it is; a twin
of `twins_edges.py` holds it too.
"""

import argparse
import inspect
import json
import platform
import random
import statistics
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from twins import TWINS as PLAIN
from twins import Loss, Twin
from twins_dense import TWINS as DENSE
from twins_edges import TWINS as EDGES
from twins_features import TWINS as FEATURES
from twins_logits import TWINS as LOGITS

LARGE = {"batch": 256, "classes": 1000}
ON_LOGITS = LOGITS | {
    name: twin
    for name, twin in (PLAIN | EDGES).items()
    if "batch" in inspect.signature(twin.draw).parameters
}
LARGER = {
    f"{name}, 256 x 1000": twin._replace(draw=partial(twin.draw, **LARGE))
    for name, twin in ON_LOGITS.items()
}
TWINS = PLAIN | LOGITS | LARGER | FEATURES | DENSE | EDGES
RESULT = Path(__file__).parent / "results" / "losses.json"
LEAST = 0.002  # seconds that a measurement lasts at least
DEARER = {
    "cross_entropy": "the plain form is NaN where nothing is labelled",
    "binary_cross_entropy": "a look for unknown targets, beside one native kernel",
    "srd_correlation": "the plain form has no answer for a constant feature or a batch of one",
    "hard": "checks of the arguments, beside a short computation",
}


def step(loss: Loss, arrays: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Value and gradient by the first array."""
    s = arrays[0].detach().requires_grad_()
    value = loss(s, *arrays[1:])
    return value, torch.autograd.grad(value, s)[0]


def seconds(loss: Loss, arrays: Sequence[Tensor], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        step(loss, arrays)
    return (time.process_time() - start) / times


def check(name: str, twin: Twin, arrays: Sequence[Tensor]) -> None:
    """Raises AssertionError unless both say the same."""
    for mine, plain in zip(step(twin.loss, arrays), step(twin.plain, arrays), strict=True):
        torch.testing.assert_close(
            mine,
            plain,
            rtol=1e-3,
            atol=1e-3 * float(plain.detach().abs().max()),
            msg=f"{name} differs",
        )


def measure(name: str, twin: Twin, rounds: int) -> dict[str, float]:
    """Milliseconds of both, their ratio and its spread, and the ratio of the loss to itself."""
    arrays = twin.draw(torch.Generator().manual_seed(0))
    check(name, twin, arrays)
    ways = {"loss": twin.loss, "plain": twin.plain, "again": twin.loss}
    times = 1 + int(LEAST / seconds(twin.loss, arrays, 1))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in random.sample(list(ways), len(ways)):
            found[way].append(seconds(ways[way], arrays, times))
    low, middle, high = statistics.quantiles(ratios(found["loss"], found["plain"]), n=4)
    return {
        "milliseconds": statistics.median(found["loss"]) * 1000,
        "plain": statistics.median(found["plain"]) * 1000,
        "ratio": middle,
        "spread": (high - low) / 2,
        "again": statistics.median(ratios(found["again"], found["loss"])),
    }


def ratios(a: list[float], b: list[float]) -> list[float]:
    """Round by round, which a machine that slows down does not touch."""
    return [mine / other for mine, other in zip(a, b, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="losses; all unless said")
    parser.add_argument("--rounds", type=int, default=100, help="measurements of each")
    parser.add_argument("--quick", action="store_true", help="3 rounds")
    parser.add_argument("--write", action="store_true", help="keep it in results/losses.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = {}
    print(f"{'':50} {'ms':>9} {'plain ms':>9} {'ratio':>7} {'spread':>7} {'A/A':>7}")
    for name in options.names or TWINS:
        rows[name] = row = measure(name, TWINS[name], 3 if options.quick else options.rounds)
        milliseconds = f"{row['milliseconds']:9.3f} {row['plain']:9.3f}"
        reason = DEARER.get(name, "") if row["ratio"] > 1.1 else ""
        print(
            f"{name:50} {milliseconds} {row['ratio']:7.3f} {row['spread']:7.3f} {row['again']:7.3f}"
            f" {reason}".rstrip()
        )
    if options.write:
        kept = {"losses": rows, "dearer": DEARER, "threads": 1, "machine": platform.machine()}
        kept["torch"] = torch.__version__
        RESULT.write_text(json.dumps(kept, indent=2) + "\n")


if __name__ == "__main__":
    main()
