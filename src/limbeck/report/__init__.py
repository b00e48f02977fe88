"""The report: one HTML file that needs no network, from a run or a comparison."""

from dataclasses import replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from limbeck.errors import LimbeckError
from limbeck.report.collect import Compared, collect
from limbeck.report.of_comparison import comparison_page
from limbeck.report.of_graph import GraphOf, who_teaches
from limbeck.report.of_run import run_page
from limbeck.report.words import tied


def write_report(folder: Path, out: Path | None = None, *, graph_of: GraphOf | None = None) -> Path:
    """Write the report of the run or comparison in `folder`; returns the path of the HTML file.

    `out` is by default `report.html` in `folder`. Files that are missing or broken leave their
    sections out and are named at the end of the report. `graph_of` says of a recipe's text who
    teaches whom; without it that is not drawn.

    Raises `LimbeckError` where `folder` holds neither a run nor a comparison, or `out` is a folder.
    """
    target = folder / "report.html" if out is None else out
    found = collect(folder)
    if target.is_dir():
        raise LimbeckError(f"`out` must be a file, got the folder {target}; name the file in it")
    page = comparison_page(found) if isinstance(found, Compared) else run_page(found)
    if graph_of is not None:
        page = replace(page, sections=[*page.sections, who_teaches(found.recipe, graph_of)])
    environment = Environment(
        loader=PackageLoader("limbeck.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tied"] = tied
    html = environment.get_template("report.html.j2").render(page=page)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(html, encoding="utf-8")
    return target
