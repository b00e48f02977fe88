"""Files that are missing, broken or elsewhere."""

from pathlib import Path

import pytest
from tests.report.pages import headings, left_out, report

from limbeck.errors import LimbeckError
from limbeck.report import write_report


@pytest.mark.parametrize(
    ("file", "missing"),
    [
        ("metrics.jsonl", ["Curves"]),
        ("evaluation.json", ["Measures", "Size and speed", "Reliability", "Classes", "Confusion"]),
        ("recipe.yaml", []),
        ("environment.json", []),
    ],
)
def test_a_missing_file_leaves_its_sections_out(run: Path, file: str, missing: list[str]) -> None:
    whole = headings(report(run))
    (run / file).unlink()
    html = report(run)
    assert headings(html) == [each for each in whole if each not in missing] + ["Left out"]
    assert f"{file} is missing" in left_out(html)
    assert all(f"{section}: needs {file}" in left_out(html) for section in missing)


def test_runs_without_files_leave_a_comparison_standing(comparison: Path) -> None:
    for file in comparison.glob("arms/*/*/*.*"):
        file.unlink()
    html = report(comparison)
    assert headings(html) == ["Arms", "Size and speed", "Cost", "Left out"]
    assert "metrics.jsonl is missing in 12 of 12 runs: arms/labels-only/seed-0" in html


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ('{"top1": 0.9', "is not a JSON object"),
        ("[]", "is not a JSON object"),
        ('{"top1": "high"}', "is not as expected: top1"),
        ('{"classes": ["a", "b"], "confusion": [[1, 2]]}', "confusion must be 2 by 2"),
    ],
)
def test_a_broken_evaluation_is_named(run: Path, content: str, problem: str) -> None:
    (run / "evaluation.json").write_text(content)
    html = report(run)
    assert "Not evaluated yet" in html
    assert f"evaluation.json {problem}" in html or problem in left_out(html)


@pytest.mark.parametrize(
    ("files", "saying"),
    [
        ([], "is empty"),
        (["notes.txt"], "holds none of them"),
        (["arms/distilled/seed-0/recipe.yaml"], "unfinished comparison"),
    ],
)
def test_a_wrong_folder_is_an_error_of_one_line(
    tmp_path: Path, files: list[str], saying: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with pytest.raises(LimbeckError, match=saying) as caught:
        write_report(tmp_path)
    assert "must be a run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_file_are_errors(run: Path) -> None:
    with pytest.raises(LimbeckError, match="does not exist"):
        write_report(run / "nowhere")
    with pytest.raises(LimbeckError, match="is a file; give the folder that holds it"):
        write_report(run / "evaluation.json")


@pytest.mark.parametrize(
    ("content", "saying"),
    [
        ("{", "compare.json is not a JSON object"),
        ('{"arms": {}}', "compare.json is not as expected: verdict: Field required"),
        (
            '{"verdict": {"kind": "", "text": ""}, "baseline": "a", "subject": "b", "arms": {}}',
            "arms must hold 'a'",
        ),
    ],
)
def test_a_broken_comparison_is_an_error(tmp_path: Path, content: str, saying: str) -> None:
    (tmp_path / "compare.json").write_text(content)
    with pytest.raises(LimbeckError, match=saying):
        write_report(tmp_path)


def test_the_report_goes_where_it_is_wanted(run: Path, tmp_path: Path) -> None:
    assert write_report(run) == run / "report.html"
    assert write_report(run, tmp_path / "deep" / "a.html").is_file()
    with pytest.raises(LimbeckError, match="`out` must be a file"):
        write_report(run, tmp_path)
