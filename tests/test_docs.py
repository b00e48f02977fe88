"""The documentation tells the truth: its examples run, its recipes and commands are valid."""

import doctest
import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import limbeck
from limbeck import losses
from limbeck.cli import main
from limbeck.graph import drawing
from limbeck.recipe import Recipe, graph_of, read, validate

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


def test_every_public_name_is_explained() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    assert {name for name in limbeck.__all__ if f":: limbeck.{name}" not in page} == set()
    assert ".. automodule:: limbeck.losses\n   :members:\n" in page  # all that are public


@pytest.fixture(scope="module")
def generate() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        yield loaded()


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generator_does_as_it_says(generate: ModuleType) -> None:
    result = doctest.testmod(generate)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_reference_has_every_key_and_no_dead_link(generate: ModuleType) -> None:
    written = generate.keys()
    schema = Recipe.model_json_schema()
    for block in (schema, *schema["$defs"].values()):
        assert {key for key in block["properties"] if f"| `{key}` |" not in written} == set()
    places = re.findall(r"^### (.*)", written, re.MULTILINE)
    anchors = {place.replace(".", "").replace(" ", "-") for place in places}
    assert set(re.findall(r"\(#([^)]*)\)", written)) <= anchors


def test_the_reference_has_every_loss_with_its_keywords(generate: ModuleType) -> None:
    written = generate.loss_table()
    assert "| `kl` | `temperature: 1`, `axis: -1` |" in written
    assert "| `truth` | `label_smoothing: 0` |" in written
    known = {name for name in losses.__all__ if f"| `{name}` |" in written}
    assert known == set(losses.__all__) - {"cross_entropy"}


def test_the_reference_has_every_command_with_its_options(generate: ModuleType) -> None:
    page = generate.commands()
    assert set(re.findall(r"^## `limbeck (\w+)", page, re.MULTILINE)) == set(main.commands)
    assert "`limbeck store write RECIPE WHERE [KEY=VALUE]...`" in page
    assert "| `--seeds INTEGER RANGE` |" in page


def test_costs_are_those_of_the_results(generate: ModuleType, tmp_path: Path) -> None:
    assert generate.costs(tmp_path) == "Not measured yet.\n"
    rows = {
        name: {"milliseconds": 0.5, "ratio": ratio, "spread": 0.1}
        for name, ratio in (("kl", 1.0), ("srd", 1.26), ("jsd", 1.14))
    }
    (tmp_path / "losses.json").write_text(json.dumps({"losses": rows}))
    page = generate.costs(tmp_path)
    assert "1 of 3 cost at most 1.1 times the plain form. The others:" in page
    assert page.index("| `srd` | 0.50 | 1.26 | 0.10 |") < page.index("| `jsd` |")
    assert "python benchmarks/losses.py" in page
    assert "A training step" not in page


def test_the_cost_model_follows_its_constants(generate: ModuleType, tmp_path: Path) -> None:
    """Teacher, student and reading of 2, 1 and 0.25 ms a step."""
    assert generate.cost_model(tmp_path) == "Not measured yet.\n"
    io = {"write, MB/s": 100.0, "verify, MB/s": 1000.0, "store, rows/s": 5e4}
    store = {"steps": {"a pair": {"live": 3.0, "stored": 1.25, "free": 1.0}}, "io": io}
    (tmp_path / "store.json").write_text(json.dumps(store))
    tokens = {"codecs": {"top 50, levels": {"bytes_128k": 150}}}
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    page = generate.cost_model(tmp_path)
    once = 1e9 / 10_000 / 3600
    ten = 10 * 3 / (2 + 10 * 1.25)
    row = f"| {2 * once:.1f} | {2 * once:.1f} | {1.25 * once:.1f} | {2 / 1.75:.2f} | {ten:.1f} |"
    assert f"| a pair | a billion samples {row}" in page
    assert "| `logits`, 1,000 classes | 2,024 | 10 GB | 2,024 GB | 20 |" in page
    assert "a token of 131,072 | 150 | 0.77 GB | 150 GB | 1.5 |" in page
    assert "reads 5 times 10,000 rows" in page
    assert "one writer 2.8 hours" in page


SCHEMES = sorted((DOCS.parent / "recipes" / "schemes").glob("*.yaml"))


@pytest.mark.parametrize("path", SCHEMES, ids=lambda path: path.stem)
def test_who_teaches_whom_is_drawn_of_every_scheme(generate: ModuleType, path: Path) -> None:
    page = generate.schemes(path.parent)
    title = path.read_text(encoding="utf-8").partition("\n")[0]
    assert re.fullmatch(r"# \S.*", title)
    _, _, after = page.partition(f"\n### {title.removeprefix('# ')}\n")
    section, _, _ = after.partition("\n### ")
    assert drawing(graph_of(read(path))) in section
    assert f"`recipes/schemes/{path.name}`" in section
    told = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)[0])
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert told["objective"] == written["objective"]
    assert {"teacher", "sources", "students", "chain"} & {*told} == (
        {"teacher", "sources", "students", "chain"} & {*written}
    )


def test_schemes_stand_in_the_order_of_who_teaches(generate: ModuleType) -> None:
    page = generate.schemes(SCHEMES[0].parent)
    assert re.findall(r"^## (.*)", page, re.MULTILINE) == list(generate.GROUPS)
    assert len(re.findall(r"^### ", page, re.MULTILINE)) == len(SCHEMES)


def test_the_drawings_are_written_with_the_other_pages(
    generate: ModuleType, tmp_path: Path
) -> None:
    generate.write(tmp_path)
    page = (tmp_path / "who-teaches-whom.md").read_text(encoding="utf-8")
    assert page == generate.schemes(SCHEMES[0].parent)
    assert "generated/who-teaches-whom.md" in (DOCS / "who-teaches-whom.md").read_text("utf-8")
