"""The curves of a training, from its metrics."""

import json
from pathlib import Path

from tests.report.pages import report

from limbeck.report.history import averaged, history


def test_a_resumed_run_counts_its_last_words_and_a_torn_line_none() -> None:
    lines = [
        '{"kind":"train","step":1,"loss":3.0,"parts":{"truth":3.0},"lr":0.1}',
        '{"kind":"train","step":2,"loss":9.0,"parts":{"truth":9.0},"lr":0.1}',
        '{"kind":"train","step":2,"loss":2.0,"parts":{"truth":2.0},"lr":0.1}',
        '{"kind":"train","step":3,"loss":NaN,"parts":{"truth":NaN},"lr":0.1}',
        '{"kind":"eval","step":3,"epoch":1,"split":"valid","top1":0.5}',
        '{"kind":"train","step":4,"lo',
    ]
    found = history(lines)
    assert found.terms == {"truth": [(1.0, 3.0), (2.0, 2.0)]}
    assert found.accuracy == {"valid": [(1.0, 0.5)]}
    assert found.seconds is None


def test_curves_that_share_no_step_are_not_averaged() -> None:
    assert averaged([[(1, 1.0)], [(2, 5.0)]]) == [(1, 1.0)]
    assert averaged([[(1, 1.0), (2, 3.0)], [(2, 5.0)]]) == [(2, 4.0)]
    assert averaged([[], []]) == []


def test_an_accuracy_measured_once_is_no_curve(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    evaluations = [line for line in lines if '"eval"' in line]
    assert "Accuracy on valid" in report(run)
    kept = [line for line in lines if line not in evaluations[1:]]
    (run / "metrics.jsonl").write_text("\n".join(kept))
    html = report(run)
    assert "Accuracy on valid" not in html
    assert "Learning rate" in html


def test_each_of_several_students_has_its_own_curves() -> None:
    parts = {"a/truth": 1.0, "a/kl:b": 0.5, "ab/truth": 2.0}
    lines: list[dict[str, object]] = [
        {"kind": "train", "step": 1, "loss": 3.5, "parts": parts, "lr": 0.1},
        {"kind": "eval", "step": 1, "epoch": 1, "student": "a", "top1": 0.5, "split": "valid"},
        {"kind": "eval", "step": 1, "epoch": 1, "student": "ab", "top1": 0.7, "split": "valid"},
    ]
    whole = history(map(json.dumps, lines))
    assert whole.students == ("a", "ab")
    assert whole.of("a").terms == {"truth": [(1.0, 1.0)], "kl:b": [(1.0, 0.5)]}
    assert whole.of("a").accuracy == {"valid": [(1.0, 0.5)]}
    assert whole.of("ab").accuracy == {"valid": [(1.0, 0.7)]}
    assert whole.of("ensemble").terms == whole.of("ensemble").accuracy == {}
