"""How the settings of recipes/digits.yaml were chosen: on digits:valid, with seeds of their own.

    python benchmarks/digits.py --out runs/digits-choices --write

Each setting trains the distilled arm with seeds 10 to 12, which the demo does not use, and is
scored on the validation digits. digits:test is never opened.
"""

import argparse
import json
import statistics
from pathlib import Path

from limbeck.recipe import arms_of, read
from limbeck.recipe.pipeline import runner

ROOT = Path(__file__).parent.parent
SEEDS = (10, 11, 12)
SETTINGS = {
    f"T={temperature} truth={alpha}": [
        f"objective.0.weight={alpha}",
        f"objective.1.weight={round(1 - alpha, 2)}",
        f"objective.1.temperature={temperature}",
    ]
    for temperature in (1, 2, 4)
    for alpha in (0.1, 0.5)
}


def score(name: str, overrides: list[str], out: Path) -> list[float]:
    """Validation accuracy of the distilled arm, a number a seed."""
    recipe = read(ROOT / "recipes" / "digits.yaml", ["data.test=digits:valid", *overrides])
    run = runner({"distilled": arms_of(recipe)["distilled"]}, out / "teachers")
    scores = []
    for seed in SEEDS:
        folder = out / name.replace(" ", "-") / f"seed-{seed}"
        if not (folder / "evaluation.json").exists():
            run("distilled", seed, folder)
        scores.append(json.loads((folder / "evaluation.json").read_text())["top1"])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "digits-choices")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results")
    options = parser.parse_args()
    results = {name: score(name, setting, options.out) for name, setting in SETTINGS.items()}
    for name, scores in sorted(results.items(), key=lambda item: -statistics.fmean(item[1])):
        print(f"{name:<18} {100 * statistics.fmean(scores):.2f}  {[round(s, 3) for s in scores]}")
    if options.write:
        path = ROOT / "benchmarks" / "results" / "digits-choices.json"
        path.write_text(json.dumps({"split": "digits:valid", "top1": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
