"""One file of sound HTML that needs nothing else."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.report.made import make_run
from tests.report.pages import drawings, report


def test_what_others_named_is_escaped(tmp_path: Path) -> None:
    classes = ("<script>alert(1)</script>", "&amp;", '"quoted"')
    make_run(tmp_path / "run", classes=classes)
    (tmp_path / "run" / "recipe.yaml").write_text("name: </pre><script>\n")
    html = report(tmp_path / "run")
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "name: &lt;/pre&gt;&lt;script&gt;" in html


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_the_file_needs_no_network_and_no_script(name: str, request: pytest.FixtureRequest) -> None:
    html = report(request.getfixturevalue(name))
    for outside in ("http", "//", "src=", "href=", "url(", "@import", "<script", "<link"):
        assert outside not in html.replace("</", "<").replace("/>", ">")


def test_both_schemes_narrow_windows_and_print_are_styled(run: Path) -> None:
    html = report(run)
    for rule in ("(prefers-color-scheme: dark)", "(max-width: 40rem)", "@media print"):
        assert rule in html
    assert all("#" not in drawing for drawing in drawings(html))


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_drawings_are_whole_and_say_what_they_show(
    name: str, request: pytest.FixtureRequest
) -> None:
    found = drawings(report(request.getfixturevalue(name)))
    assert len(found) >= 10
    for drawing in found:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        assert root.get("aria-label")
        assert not re.search(r'="[^"]*\b(nan|inf)\b', drawing)


class Nesting(HTMLParser):
    """Follows the open elements; `wrong` names end tags that close another element."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_elements_nest_and_table_headers_have_a_scope(
    name: str, request: pytest.FixtureRequest
) -> None:
    html = report(request.getfixturevalue(name))
    nesting = Nesting()
    nesting.feed(html)
    assert (nesting.open, nesting.wrong) == ([], [])
    assert html.count("<th ") == html.count('<th scope="')
    assert "<th>" not in html
