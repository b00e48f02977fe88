"""What the page of a comparison says."""

import json
import re
from pathlib import Path

import pytest
from tests.report.pages import change, headings, report

from limbeck.report import pooled
from limbeck.report.collect import Compared, collect


def test_a_comparison_shows_its_verdict_then_everything(comparison: Path) -> None:
    html = report(comparison)
    gain = json.loads((comparison / "compare.json").read_text())["gains"][2]
    verdict = re.search(r"<h1>(.*?)</h1>", html, flags=re.DOTALL)
    assert verdict is not None
    assert f"Gain: +{100 * gain['mean']:.2f}\u00a0points" in verdict[1]
    assert html.index("<h1>") < html.index("<h2")
    assert headings(html) == [
        *("Arms", "Curves", "Size and speed", "Reliability", "Classes", "Confusion", "Cost"),
        "How it was made",
    ]
    assert "Every run took 620 steps over 39,680 images." in html


def test_the_arms_table_holds_seeds_interval_and_cost(comparison: Path) -> None:
    record = json.loads((comparison / "compare.json").read_text())
    arm, gain = record["arms"]["distilled"], record["gains"][2]
    row = re.search(r'<tr class="strong">(.*?)</tr>', report(comparison), flags=re.DOTALL)
    assert row is not None
    assert f"{100 * arm['mean']:.2f} ± {100 * arm['std']:.2f} %" in row[1]
    assert " · ".join(f"{100 * each['top1']:.2f}" for each in arm["runs"]) in row[1]
    assert f"+{100 * gain['low']:.2f} to +{100 * gain['high']:.2f}" in row[1]
    assert all(f"<td>{cell}</td>" in row[1] for cell in ("4.1 s", "620", "39,680"))


@pytest.mark.parametrize(
    ("kind", "sign", "meaning"),
    [
        ("gain", "▲", "better for having had the teacher"),
        ("no gain shown", "◆", "do not show that the teacher helps"),
        ("loss", "▼", "worse for having had the teacher"),
    ],
)
def test_every_verdict_is_plain(comparison: Path, kind: str, sign: str, meaning: str) -> None:
    change(comparison / "compare.json", verdict={"kind": kind, "text": f"{kind}: as measured"})
    html = report(comparison)
    assert f"{kind[0].upper()}{kind[1:]}" in html[html.index("<h1>") : html.index("</h1>")]
    assert sign in html
    assert "As measured." in html
    assert meaning in html


def test_one_seed_has_no_interval(comparison: Path) -> None:
    gain = {"arm": "distilled", "against": "labels only", "per_seed": [0.05], "mean": 0.05}
    verdict = {"kind": "no gain shown", "text": "no gain shown: +5.00 points (1 seed)"}
    arms = json.loads((comparison / "compare.json").read_text())["arms"]
    arms = {name: arm | {"runs": arm["runs"][:1], "std": 0.0} for name, arm in arms.items()}
    change(comparison / "compare.json", gains=[gain], verdict=verdict, seeds=[0], arms=arms)
    html = report(comparison)
    assert "± 0.00" not in html
    assert "One seed has no interval" in html
    assert "interval spans zero" not in html


def test_a_better_arm_and_an_unequal_budget_are_said(comparison: Path) -> None:
    arms = json.loads((comparison / "compare.json").read_text())["arms"]
    arms["hard pseudo-labels"]["mean"] = 0.99
    arms["hard pseudo-labels"]["runs"][0]["steps"] = 640
    change(comparison / "compare.json", arms=arms)
    html = report(comparison)
    assert "The highest mean is that of hard pseudo-labels: 99.00\u00a0%" in html
    assert "the budgets are not equal" in html
    assert "620 to 640" in html


def test_seeds_are_pooled_by_their_counts(comparison: Path) -> None:
    found = collect(comparison)
    assert isinstance(found, Compared)
    seeds = list(found.evaluations("distilled").values())
    matrix = pooled.confusion(seeds)
    assert matrix[3][3] == sum(each.confusion[3][3] for each in seeds)
    assert sum(map(sum, matrix)) == 3 * 2500
    for merged, each in zip(pooled.reliability(seeds), seeds[0].reliability, strict=True):
        assert merged.count == 3 * each.count
    gains = pooled.class_gains(found.evaluations("distilled"), found.evaluations("labels only"))
    ours, theirs = (found.evaluations(arm)[1].confusion for arm in ("distilled", "labels only"))
    assert gains["7"][1] == pytest.approx((ours[7][7] - theirs[7][7]) / 250)
