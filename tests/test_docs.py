"""The documentation tells the truth: its examples run, its recipes and commands are valid."""

import doctest
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from limbeck.cli import main
from limbeck.recipe import Recipe, validate

DOCS = Path(__file__).parent.parent / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SHOWN = [page for page in PAGES if ">>> " in page.read_text(encoding="utf-8")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(language: str) -> list[Any]:
    """The fenced blocks of a language on all pages, each with its page's name."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [
        pytest.param(text, id=f"{page.stem}-{k}")
        for page in PAGES
        for k, text in enumerate(fence.findall(page.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize("page", SHOWN, ids=lambda page: page.stem)
def test_examples_run(page: Path) -> None:
    result = doctest.testfile(str(page), module_relative=False, optionflags=FLAGS, encoding="utf-8")
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize("text", blocks("yaml"))
def test_recipes_are_valid(text: str) -> None:
    assert validate(yaml.safe_load(text)).objective


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_and_options_exist(text: str) -> None:
    calls = [shlex.split(line.partition("limbeck ")[2]) for line in text.splitlines()]
    assert calls
    for name, *arguments in calls:
        main.commands[name].make_context(name, arguments)


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "index" or (f"]({page.name})" in index and f"\n{page.stem}\n" in index)


def test_the_reference_has_every_key_and_loss() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"))
    written = generate["keys"]()
    keys: set[str] = set()
    for block in (Recipe.model_json_schema(), *Recipe.model_json_schema()["$defs"].values()):
        keys |= block["properties"].keys()
    assert {key for key in keys if f"| `{key}` |" not in written} == set()
    assert all(
        f"(#{slug})" not in written or f"\n### {slug}\n" in written for slug in ("data", "train")
    )
    assert "| `kl` | `temperature: 1`, `axis: -1` |" in generate["loss_table"]()
