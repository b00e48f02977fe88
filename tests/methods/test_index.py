"""The index tells of methods that there are."""

import inspect
from pathlib import Path

import pytest

import limbeck.methods
from limbeck import Objective, methods
from limbeck.errors import LimbeckError
from limbeck.methods import NAMES, ROWS
from limbeck.methods.index import Method
from limbeck.methods.listing import explain, listing
from limbeck.methods.measured import measured, where

FILES = {path.stem for path in Path(limbeck.methods.__file__).parent.glob("*.py")}


def test_names_and_aliases_are_each_one_method() -> None:
    named = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert len(named) == len(set(named)) == len(NAMES)
    assert len(ROWS) >= 60


def test_no_file_hides_a_method() -> None:
    """Importing a file sets its name on the package, where the method's would be looked up."""
    assert FILES.isdisjoint(NAMES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_its_function(row: Method) -> None:
    function = getattr(methods, row.name)
    assert function.__module__ == f"limbeck.methods.{row.family}"
    assert all(getattr(methods, alias) is function for alias in row.aliases)
    assert issubclass(inspect.signature(function).return_annotation, Objective)
    assert all((row.signal, row.formula, row.paper, row.parameters, row.taps))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_explained(row: Method) -> None:
    head, *lines = explain(row.name).splitlines()
    names = inspect.signature(getattr(methods, row.name)).parameters
    assert head.startswith(f"{row.name}(")
    assert all(name in head for name in names)
    assert inspect.getdoc(getattr(methods, row.name)) in "\n".join(lines)


def test_the_listing_has_a_line_for_each() -> None:
    assert [line.split()[0] for line in listing().splitlines()] == [row.name for row in ROWS]


def test_a_method_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'dkdd'"):
        _ = methods.dkdd
    with pytest.raises(LimbeckError, match="did you mean 'dkd'"):
        explain("dkdd")


def test_what_was_measured_are_methods() -> None:
    assert measured().keys() <= {row.name for row in ROWS}
    for name, found in measured().items():
        assert f"measured    {found.text}; {where()}" in explain(name)
