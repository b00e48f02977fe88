"""What the page of a run says."""

import json
import re
from pathlib import Path

from tests.report.made import make_run
from tests.report.pages import change, headings, report


def test_a_run_shows_what_it_has(run: Path) -> None:
    html = report(run)
    assert headings(html) == [
        *("Measures", "Curves", "Size and speed", "Reliability", "Classes", "Confusion"),
        "How it was made",
    ]
    for word in ("Retention", "Agreement", "Fidelity", "ECE", "Learning rate", "limbeck compare"):
        assert word in html


def test_unknown_and_infinite_numbers_become_dashes(run: Path) -> None:
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation |= {"nll": float("nan"), "latency_ms": None, "from_tomorrow": 1}
    (run / "evaluation.json").write_text(json.dumps(evaluation))
    html = report(run)
    assert re.search(r"Negative log-likelihood, nats</th><td>–</td>", html)
    assert "nan" not in html[html.index("<h1>") :]


def test_a_student_without_a_teacher(run: Path) -> None:
    change(run / "evaluation.json", teacher=None, retention=None, agreement=None)
    html = report(run)
    assert "Retention" not in html
    assert "of its teacher" not in html
    assert "Hollow: teacher" not in html


def test_many_classes_are_shown_as_their_most_frequent_mistakes(tmp_path: Path) -> None:
    names = tuple(f"class {index}" for index in range(31))
    make_run(tmp_path / "many", classes=names)
    html = report(tmp_path / "many")
    assert html.count('class="cell') == 0
    assert html.count("Taken for") == 2
    assert "The 12 best and 12 worst of 31 classes." in html
    make_run(tmp_path / "few", classes=names[:30])
    assert report(tmp_path / "few").count('class="cell') == 2 * 30 * 30
