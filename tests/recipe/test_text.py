"""Recipes as text: YAML as people write it, overrides, and what is written is what is read."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.recipe.raws import BASE, problems, raw, recipe

from limbeck.recipe import dump, read, validate
from limbeck.recipe.text import differences, parse

each = pytest.mark.parametrize

TRAPS: list[tuple[str, Any]] = [
    ("on", "on"),
    ("no", "no"),
    ("yes", "yes"),
    ("off", "off"),
    ("n", "n"),
    ("010", 10),
    ("12:30", "12:30"),
    ("1e-4", 1e-4),
    ("1E5", 1e5),
    (".5", 0.5),
    ("5.", 5.0),
    ("-3", -3),
    ("+2e3", 2000.0),
    ("1_000", "1_000"),
    ("0x10", "0x10"),
    ("2026-11-25", "2026-11-25"),
    ("true", True),
    ("False", False),
    ("TRUE", "TRUE"),
    ("null", None),
    ("~", None),
    ("", None),
    (".inf", math.inf),
    ("'1e-4'", "1e-4"),
    ("1e", "1e"),
    ("e4", "e4"),
    ("1.2.3", "1.2.3"),
]


@each(("text", "value"), TRAPS)
def test_a_word_is_what_it_looks_like(text: str, value: Any) -> None:
    found = parse(f"key: {text}", "here")["key"]
    assert (type(found), found) == (type(value), value)


def test_a_key_that_yaml_takes_for_true_is_a_word() -> None:
    assert parse("on: 1\nno: 2\n010: 3", "here") == {"on": 1, "no": 2, 10: 3}


def test_numbers_reach_the_recipe_whichever_way_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(raw()) + "train: {lr: 1e-4, weight_decay: '1e-4', epochs: 010}")
    found = read(path).train
    assert (found.lr, found.weight_decay, found.epochs) == (1e-4, 1e-4, 10)


@each(
    "text",
    ["data: 1\ndata: 2", "train: {lr: 1, lr: 2}", "objective:\n- {loss: kl, loss: hint}"],
)
def test_a_key_that_comes_twice_is_refused_by_name(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    (message,) = problems(read, path)
    key = text.split(":")[0] if text.startswith("data") else "lr" if "lr" in text else "loss"
    assert message.startswith(f"{path} is not YAML: {key!r} twice in ")
    assert "line" in message


@each("content", [b"a: [1", b"a: b: c", b"\xff\xfe\xfa", b"\x00", b"a: !!python/name:os.system x"])
def test_what_is_not_yaml_is_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    (message,) = problems(read, path)
    assert message.startswith(f"{path} is not YAML: ")
    assert "\n" not in message


@each(("content", "kind"), [("", "NoneType"), ("- 1", "list"), ("text", "str")])
def test_a_file_without_keys_is_refused(content: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(content)
    assert problems(read, path) == [f"{path} must hold keys and values, got {kind}"]


def test_a_recipe_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert problems(read, path) == [f"a recipe must be a file, got {path}; limbeck new writes one"]


# ---- overrides


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(raw()))
    return path


def test_overrides_reach_mappings_lists_and_what_is_not_there_yet(file: Path) -> None:
    overrides = [
        "train.lr=1e-3",
        "objective.1.temperature=2",
        "objective.1.weight={schedule: linear, start: 0, stop: 1}",
        "data.augment.crop=3",
        "teacher.class_map.a=[b, c]",
        "seed=1",
        "seed=2",
    ]
    found = read(file, overrides)
    assert found.train.lr == 1e-3
    assert found.objective[1].keywords() == {"temperature": 2}
    assert found.objective[1].weight.stop == 1.0
    assert found.data.augment.crop == 3
    assert found.teacher.class_map == {"a": ["b", "c"]}
    assert found.seed == 2


def test_a_value_may_hold_equals_and_colons(file: Path) -> None:
    assert read(file, ["data.valid=folder:a=b/c"]).data.valid == "folder:a=b/c"


def test_null_takes_a_block_away(file: Path) -> None:
    found = read(file, ["teacher=null", "objective=[{loss: truth}]"])
    assert found.teacher is None
    assert [term.loss for term in found.objective] == ["truth"]


BAD_OVERRIDES = [
    ("train.epocs=3", "train.epocs: no such key; did you mean 'epochs'?"),
    ("trian.epochs=3", "trian: no such key; did you mean 'train'?"),
    ("train.epochs=ten", "train.epochs: input should be a valid integer"),
    ("train.epochs", "an override must be key=value, got 'train.epochs'"),
    ("objective.2.weight=1", "objective.2.weight: '2' must be an index below 2"),
    ("objective.kl.weight=1", "objective.kl.weight: 'kl' must be an index below 2"),
    ("objective.-1.weight=1", "objective.-1.weight: '-1' must be an index below 2"),
    ("data.train.x=1", "data.train.x: nothing lies below 'digits:train'"),
    ("train.betas=[1", "the value of train.betas is not YAML"),
    ("=3", "no such key"),
]


@each(("override", "says"), BAD_OVERRIDES)
def test_an_override_that_fits_nothing_is_one_line(override: str, says: str, file: Path) -> None:
    (message,) = problems(read, file, [override])
    assert says in message


# ---- what is written is what is read


def test_b089_temperatures_weights_and_version_come_back() -> None:
    objective = [
        {"loss": "kl", "temperature": 3, "weight": 0.3, "name": "soft"},
        {"loss": "hint", "at": "2", "project": "linear", "weight": 0.7},
        {
            "loss": "truth",
            "label_smoothing": 0.1,
            "weight": {"schedule": "cosine", "start": 1, "stop": 0},
        },
    ]
    before = recipe(objective=objective)
    after = validate(parse(dump(before), "dump"))
    assert after == before
    assert [term.weight for term in after.objective][:2] == [0.3, 0.7]
    assert after.objective[0].keywords() == {"temperature": 3}
    assert after.version == 1
    assert problems(validate, raw(version=2)) == ["version: input should be 1, got 2"]


def test_b088_a_resolved_recipe_names_modules_and_holds_none(tmp_path: Path) -> None:
    """Plain YAML that any safe loader takes, with every default spelt out."""
    made = recipe(teacher__checkpoint=str(tmp_path / "a.safetensors"), teacher__fit={"epochs": 2})
    made.sum()
    content = yaml.safe_load(dump(made))
    assert content["teacher"]["model"] == "limbeck.zoo:small_cnn"
    assert content["teacher"]["checkpoint"] == str(tmp_path / "a.safetensors")
    assert content["train"]["momentum"] == 0.9
    assert content["teacher"]["fit"]["epochs"] == 2


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8
)
tricky = st.sampled_from(
    [text for text, _ in TRAPS if text] + ["1e5", "=", "<<", "- a", "#", "a: b"]
)
text = words | tricky
fractions = st.floats(0, 1, allow_nan=False)
positive = st.floats(1e-9, 1e9)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text
ramps = st.fixed_dictionaries(
    {"schedule": st.sampled_from(["linear", "cosine"]), "start": positive, "stop": positive},
    optional={"until": st.floats(0.01, 1)},
)
terms = st.fixed_dictionaries(
    {"loss": st.just("kl")},
    optional={
        "weight": positive | ramps,
        "temperature": positive | ramps,
        "name": text,
        "at": text,
    },
)
blocks = {
    "seed": st.integers(0, 2**63),
    "data": st.fixed_dictionaries(
        {"train": text},
        optional={
            "valid": st.none() | text,
            "root": text.filter(lambda t: "/" not in t),
            "labels": st.none() | st.integers(1, 10**9),
            "views": st.none() | st.integers(1, 9),
            "skip_corrupt": st.booleans(),
            "augment": st.fixed_dictionaries(
                {},
                optional={
                    "crop": st.integers(0, 9),
                    "resized_crop": st.tuples(fractions, fractions),
                },
            ),
        },
    ),
    "teacher": st.fixed_dictionaries(
        {"model": st.just("limbeck.zoo:small_cnn")},
        optional={
            "pretrained": st.booleans() | text,
            "options": st.dictionaries(text, scalars | st.lists(scalars, max_size=2), max_size=2),
            "classes": st.none() | st.lists(text, max_size=3),
            "class_map": st.none() | st.dictionaries(text, text | st.lists(text), max_size=3),
            "mean": st.none() | st.lists(fractions, min_size=1, max_size=3),
        },
    ),
    "objective": st.lists(terms, min_size=1, max_size=2),
    "train": st.fixed_dictionaries(
        {},
        optional={
            "lr": positive,
            "ema": st.none() | st.floats(0.01, 0.99),
            "optimizer": st.sampled_from(["SGD", "AdamW"]),
            "betas": st.tuples(fractions, fractions),
            "max_steps": st.none() | st.integers(1, 10**9),
        },
    ),
    "compare": st.fixed_dictionaries(
        {"arms": st.dictionaries(text, st.dictionaries(text, scalars, max_size=2), max_size=2)}
    ),
}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({"compare": {"arms": {"a": {"b": math.inf}}}})
@example({"teacher": {"model": "limbeck.zoo:small_cnn", "options": {"a": -math.inf}}})
@given(st.fixed_dictionaries(blocks))
def test_b089_any_recipe_comes_back_as_it_was(content: dict[str, Any]) -> None:
    before = validate(BASE | content)
    after = validate(parse(dump(before), "dump"))
    assert after == before
    assert dump(after) == dump(before)


# ---- differences


def test_differences_name_each_key_with_both_values() -> None:
    before = {"a": 1, "b": {"c": [1, {"d": 2}], "e": None}, "f": 0}
    after = {"a": 1, "b": {"c": [1, {"d": 3}, 4], "e": {"g": 5}}, "h": 6}
    assert differences(before, after) == [
        "b.c.1.d: 2 became 3",
        "b.c.2: None became 4",
        "b.e: None became {'g': 5}",
        "f: 0 became None",
        "h: None became 6",
    ]
    assert differences(before, before) == []
