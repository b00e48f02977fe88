"""Who teaches whom, as a report draws it."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.recipe.raws import recipe
from tests.report.made import make_comparison
from tests.report.pages import drawings, headings, left_out

from limbeck.cli import main
from limbeck.recipe import graph_of_text
from limbeck.recipe.text import dump
from limbeck.report import write_report

TITLE = "Who teaches whom"


def told(folder: Path) -> str:
    return write_report(folder, graph_of=graph_of_text).read_text(encoding="utf-8")


def test_a_run_shows_the_graph_of_its_recipe(run: Path) -> None:
    (run / "recipe.yaml").write_text(dump(recipe()))
    html = told(run)
    assert headings(html)[-2:] == [TITLE, "How it was made"]
    assert 'aria-label="labels to student: truth · 0.5; teacher to student: kl T=4"' in html
    assert "kl T=4</text>" in drawings(html)[-1]


def test_a_comparison_shows_that_of_the_arm_that_it_is_about(tmp_path: Path) -> None:
    make_comparison(tmp_path / "both")
    for path in (tmp_path / "both").rglob("recipe.yaml"):
        taught = path.parent.parent.name == "distilled"
        path.write_text(dump(recipe() if taught else recipe(objective=[{"loss": "truth"}])))
    html = told(tmp_path / "both")
    assert TITLE in headings(html)
    assert 'aria-label="labels to student: truth · 0.5; teacher to student: kl T=4"' in html


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_a_recipe_that_cannot_be_read_leaves_the_graph_out_and_says_so(
    name: str, request: pytest.FixtureRequest
) -> None:
    html = told(request.getfixturevalue(name))
    assert TITLE not in headings(html)
    assert f"{TITLE}: recipe.yaml is not one to draw" in left_out(html)


def test_without_a_recipe_there_is_none(run: Path) -> None:
    (run / "recipe.yaml").unlink()
    assert f"{TITLE}: needs recipe.yaml" in left_out(told(run))


def test_the_command_draws_it(run: Path) -> None:
    (run / "recipe.yaml").write_text(dump(recipe()))
    result = CliRunner().invoke(main, ["report", str(run)])
    assert result.exit_code == 0, result.output
    assert TITLE in headings((run / "report.html").read_text(encoding="utf-8"))


def test_names_in_it_are_escaped(run: Path) -> None:
    kl = {"loss": "kl", "name": "<script>alert(1)</script>"}
    (run / "recipe.yaml").write_text(dump(recipe(objective=[{"loss": "truth"}, kl])))
    html = told(run)
    assert TITLE in headings(html)
    assert "<script" not in html
