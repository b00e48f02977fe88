"""What is faster here is measured, chosen, and written without harm."""

import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.recipe.raws import raw, refused
from torch import nn

from limbeck.check.interleaved import Times, interleaved
from limbeck.check.rehearsal import rehearsal
from limbeck.cli import main
from limbeck.data import open_images
from limbeck.recipe import assemble, edit, read, tune_recipe, tune_student, tune_teacher, validate
from limbeck.recipe.optimizing import Gap
from limbeck.recipe.text import parse
from limbeck.recipe.tune_rows import Tried, chosen, rows, table
from limbeck.sources import Frozen
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run

ROOT = Path(__file__).parents[2]
Make = Callable[..., dict[str, Any]]
BASE = Tried("now", {"way": 0}, Times(1.0, (1.0, 1.0, 1.0)))


def verdicts(*tried: Tried, calls: int = 100, loses: float = 0.02) -> list[str]:
    return [row.verdict for row in rows([BASE, *tried], calls, loses)]


def option(name: str, seconds: float, start: float = 0.0, **more: Any) -> Tried:
    return Tried(name, {"way": name}, Times(seconds + start, (seconds,) * 3), **more)


# ---- the choice


def test_the_shortest_run_is_chosen() -> None:
    found = verdicts(option("a", 0.8), option("b", 0.5), option("c", 1.2))
    assert found == ["as it is", "slower than the chosen", "chosen", "no gain"]


def test_a_start_counts_over_the_length_of_the_run() -> None:
    compiled, plain = option("compiled", 0.5, start=60.0), option("plain", 0.9)
    late = ["as it is", "its start costs more than it saves", "chosen"]
    assert verdicts(compiled, plain, calls=100) == late
    assert verdicts(compiled, plain, calls=1000)[1] == "chosen"
    slow = option("built for long", 0.5, built=60.0)
    assert verdicts(slow, plain, calls=100) == late


def test_the_start_of_the_recipes_own_counts_as_well() -> None:
    base = Tried("compiled", {"way": 0}, Times(0.5, (0.5,) * 3), built=90.0)
    plain = option("plain", 0.7, built=1.0)
    assert [row.verdict for row in rows([base, plain], 100)] == ["as it is", "no gain"]
    base = Tried("compiled", {"way": 0}, Times(0.5, (0.5,) * 3), built=90.0)
    faster = option("faster", 0.45, built=1.0)
    found = rows([base, faster], 100)
    assert [row.start for row in found] == [89.0, 0.0]
    assert found[1].gain == pytest.approx((89 + 50) / 45)


def test_what_sees_images_otherwise_is_not_chosen() -> None:
    loses = option("a", 0.2, gap=Gap(0.04, 0.5, 256))
    keeps = option("b", 0.5, gap=Gap(0.02, 0.1, 256))
    found = verdicts(loses, keeps)
    assert found == ["as it is", "sees 4.0 % of images otherwise", "chosen"]
    assert verdicts(loses, keeps, loses=0.05)[1] == "chosen"


def test_what_gains_next_to_nothing_changes_nothing() -> None:
    found = rows([BASE, option("a", 0.98)], 100)
    assert (found[1].verdict, chosen(found)) == ("no gain", found[0])


def test_what_cannot_be_built_says_why() -> None:
    lacking = Tried("a", {"way": 1}, None, problem="this needs openvino")
    assert verdicts(lacking) == ["as it is", "this needs openvino"]


@given(
    st.lists(
        st.tuples(st.floats(0.1, 10), st.floats(0, 100), st.floats(0, 0.1)), min_size=1, max_size=6
    ),
    st.integers(1, 1000),
)
@settings(deadline=None)
def test_the_choice_is_never_slower_than_the_recipe_nor_worse(ways: list, calls: int) -> None:
    tried = [
        option(str(k), seconds, start, gap=Gap(changed, 0.0, 256))
        for k, (seconds, start, changed) in enumerate(ways)
    ]
    found = rows([BASE, *tried], calls, 0.02)
    best = chosen(found)
    assert best.seconds is not None
    assert best.start is not None
    assert best.start + calls * best.seconds <= calls * 1.0
    assert best is found[0] or (best.changed or 0) <= 0.02
    assert [row.verdict for row in found].count("chosen") == (best is not found[0])


def test_ways_are_timed_in_turns_of_random_order() -> None:
    called: list[str] = []
    ways = {name: lambda name=name: called.append(name) for name in "abc"}
    times = interleaved(ways, torch.device("cpu"), rounds=8)
    turns = [called[k : k + 3] for k in range(0, len(called), 3)]
    assert len(turns) == 9
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)
    assert len({tuple(turn) for turn in turns}) > 2
    assert len(times["a"].rest) == 8
    own = interleaved({"a": lambda: 2.5}, torch.device("cpu"), rounds=2)["a"]
    assert (own.first, own.rest, own.start) == (2.5, (2.5, 2.5), 0.0)


# ---- the file

FILES = {
    "block": "train:\n  lr: 0.1  # fast\n\n# after\nseed: 0\n",
    "flow": "train: {lr: 0.1}  # fast\nseed: 0\n",
    "empty flow": "train: {}\nseed: 0\n",
    "absent": "# on top\nseed: 0  # zero\n",
    "null": "train:\nseed: 0\n",
    "there": "train:\n  precision: float32  # exact\n  compile: false\n",
    "nested last": "train:\n  lr: 0.1\n  betas:\n    - 0.9\n    - 0.99\nseed: 0\n",
    "only nested": "train:\n  betas:\n    - 0.9\n    - 0.99\nseed: 0\n",
    "no last line": "seed: 0\ntrain:\n  lr: 0.1",
    "windows": "train:\r\n  lr: 0.1  # fast\r\nseed: 0\r\n",
    "quoted": 'train: {"precision": "float32", lr: 0.1}\n',
    "wide": "train: {lr: 0.1,\n  momentum: 0.9}  # fast\nseed: 0\n",
    "signs": "# ümläut →\ntrain:\n    lr: 0.1   # ≥ 0\n",
    "bytes": "\ufefftrain:\n  lr: 0.1\n",
}
CHANGES = {"train.precision": "bfloat16", "train.compile": True}
GREY = {"mean": [0.13], "std": [0.31]}
SMALL = {"max_steps": 2, "batch_size": 16}
REST = raw(data={"train": "digits:train"})


def grey(**changes: Any) -> dict[str, Any]:
    """A recipe on the digits, its models for one channel."""
    made = raw(train=SMALL, **changes)
    for block in (made.get("teacher"), made["student"], *made.get("sources", {}).values()):
        if block is not None:
            block.update(GREY)
    return made


def whole(text: str) -> str:
    """A recipe with a text in it."""
    rest = yaml.safe_dump(REST, sort_keys=False)
    return text + ("" if text.endswith("\n") else "\n") + rest


@pytest.mark.parametrize("name", FILES)
def test_keys_are_set_and_every_other_character_stays(tmp_path: Path, name: str) -> None:
    text = FILES[name] if name == "no last line" else whole(FILES[name])
    text = yaml.safe_dump(REST) + text if name == "no last line" else text
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text.encode())
    edit(path, CHANGES)
    after = path.read_bytes().decode()
    settings = read(path).train
    assert (settings.precision, settings.compile) == ("bfloat16", True)
    before = parse(text, "before")
    before["train"] = {**(before.get("train") or {}), "precision": "bfloat16", "compile": True}
    assert parse(after, "after") == before
    assert comments(text) == comments(after)
    kept = iter(after.replace("bfloat16", "").replace("true", ""))
    old = (
        text.replace('"float32"', "").replace("float32", "").replace("compile: false", "compile: ")
    )
    assert all(letter in kept for letter in old), "the old text, in order"
    assert after.count("\r\n") == (after.count("\n") if name == "windows" else 0) or "\r" in text


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


@pytest.mark.parametrize(
    "path", [*ROOT.glob("recipes/**/*.yaml"), *ROOT.glob("src/limbeck/recipe/*.yaml")]
)
def test_every_recipe_of_ours_can_be_changed_in_place(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "recipe.yaml"
    copy.write_bytes(path.read_bytes())
    before = read(path)
    changes = {"train.precision": "bfloat16", "data.workers": 2}
    if before.live is not None:
        changes |= {"teacher.optimize.fold_bn": True, "teacher.optimize.engine": "compile"}
    edit(copy, changes)
    after = read(copy)
    assert (after.train.precision, after.data.workers) == ("bfloat16", 2)
    assert comments(path.read_text()) == comments(copy.read_text())
    if after.live is not None:
        assert after.live.optimize is not None
        assert after.live.optimize.engine == "compile"
        after = after.model_copy(update={"teacher": before.teacher})
    assert after.model_copy(update={"train": before.train, "data": before.data}) == before


@pytest.mark.parametrize(
    "text",
    [
        "train: &t {lr: 0.1}\ncompare: {arms: {x: {train: *t}}}\n",
        "compare: {arms: {x: &t {lr: 0.1}}}\ntrain: *t\n",
        "compare: {arms: {x: &t {precision: float32, compile: false}}}\ntrain: {<<: *t}\n",
    ],
)
def test_a_file_without_a_safe_place_is_left_alone(tmp_path: Path, text: str) -> None:
    """What an anchor holds stands in two places, of which one is meant."""
    path = tmp_path / "recipe.yaml"
    path.write_text(whole(text))
    told = refused(edit, path, {"train.precision": "bfloat16"})
    assert "has no place for these keys that is safe; write there train.precision: bfloat16" in told
    assert path.read_text() == whole(text)


def test_other_encodings_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_bytes(whole("").encode("utf-16"))
    assert "must be UTF-8" in refused(edit, path, CHANGES)
    assert path.read_bytes().decode("utf-16") == whole("")


def test_mode_and_links_of_a_file_stay(tmp_path: Path) -> None:
    path, link = tmp_path / "recipe.yaml", tmp_path / "link.yaml"
    path.write_text(whole(""))
    path.chmod(0o640)
    link.symlink_to(path)
    edit(link, CHANGES)
    assert link.is_symlink()
    assert os.stat(path).st_mode & 0o777 == 0o640
    assert read(path).train.compile


def test_a_change_that_makes_no_recipe_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(whole(""))
    assert "precision" in refused(edit, path, {"train.precision": "float3"})
    assert path.read_text() == whole("")


# ---- the command

RECIPE = """\
# ours
data: {train: "digits:train", valid: "digits:valid"}  # small
teacher:
  model: limbeck.zoo:small_cnn  # the big one
  options: {width: 4}
  mean: [0.13]
  std: [0.31]
student: {model: "limbeck.zoo:mlp", options: {hidden: 8}, mean: [0.13], std: [0.31]}
objective:
  - {loss: truth, weight: 0.5}
  - {loss: kl, weight: 0.5}
train:
  max_steps: 100
  batch_size: 16  # few
"""


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Seconds by option instead of a clock; one that is not named takes 1."""
    seconds: dict[str, float] = {}
    asked: list[list[str]] = []

    def instead(ways: Any, device: Any) -> dict[str, Times]:
        for call in ways.values():
            call()
        asked.append([*ways])
        return {name: Times(seconds.get(name, 1.0), (seconds.get(name, 1.0),) * 3) for name in ways}

    monkeypatch.setattr(tune_teacher, "interleaved", instead)
    monkeypatch.setattr(tune_student, "interleaved", instead)
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)
    monkeypatch.setattr("time.perf_counter", lambda: 0.0)
    yield seconds
    assert all(len(set(names)) == len(names) for names in asked)


def tuned(path: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(main, ["tune", str(path), *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.stdout


def test_what_is_chosen_is_written_and_nothing_else(tmp_path: Path, scripted: dict) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    scripted["bfloat16, batch norms folded, channels last"] = 0.25
    scripted["float32, compiled"] = 0.5
    told = tuned(path, "--json")
    assert told["changes"] == {
        "teacher.precision": "bfloat16",
        "teacher.channels_last": True,
        "teacher.optimize.fold_bn": True,
        "train.compile": True,
    }
    assert (told["steps"], told["written"]) == (100, False)
    assert told["gain"] == pytest.approx(200 / 75)
    assert path.read_text() == RECIPE

    output = tuned(path, "--write")
    assert "written:\n  teacher.precision: bfloat16\n" in output
    assert "a run of 100 steps: 2.67 times as fast" in output
    added = [line for line in path.read_text().splitlines() if line not in RECIPE.splitlines()]
    assert added == [
        "  precision: bfloat16",
        "  channels_last: true",
        "  optimize: {fold_bn: true}",
        "  compile: true",
    ]
    assert [line for line in path.read_text().splitlines() if line not in added] == (
        RECIPE.splitlines()
    )
    again = tuned(path, "--json")
    assert again["changes"] == {}
    first = again["options"]["teacher"][0]
    assert first["option"] == "bfloat16, batch norms folded, channels last"
    assert first["verdict"] == "as it is"


def test_where_nothing_is_faster_nothing_changes(tmp_path: Path, scripted: dict) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    assert tuned(path, "--write").endswith("nothing to change\n")
    assert path.read_text() == RECIPE


def test_a_faster_way_can_be_the_plain_one(tmp_path: Path, scripted: dict) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace("  batch_size", "  channels_last: true  # so\n  batch_size"))
    scripted["float32"] = 0.5
    assert tuned(path, "--json", "--write")["changes"]["train.channels_last"] is False
    assert "  channels_last: false  # so\n" in path.read_text()


def test_options_suit_the_networks(scripted: dict) -> None:
    def names(**changes: Any) -> dict[str, list[str]]:
        found = tune_recipe(validate(grey(**changes)))
        return {part: [row["option"] for row in r] for part, r in found["options"].items()}

    convolutions = names(teacher__options={"width": 2})
    assert "float32, batch norms folded, channels last" in convolutions["teacher"]
    assert not any("int8" in name for name in convolutions["teacher"])
    assert convolutions["train"] == [
        "float32",
        "bfloat16",
        "float32, compiled",
        "bfloat16, compiled",
    ]
    linear = names(teacher={"model": "limbeck.zoo:mlp"}, student={"model": "limbeck.zoo:small_cnn"})
    assert {"float32, int8", "float32, int8, compiled", "bfloat16, int8"} <= {*linear["teacher"]}
    assert not any("channels" in name or "folded" in name for name in linear["teacher"])
    assert "bfloat16, channels last, compiled" in linear["train"]


def test_a_teacher_in_parts_is_tried_in_the_ways_that_it_may_have(scripted: dict) -> None:
    parts = grey(teacher__shard=True, teacher__options={"width": 2}, train__parallel="fsdp")
    found = {row["option"] for row in tune_recipe(validate(parts))["options"]["teacher"]}
    assert {"float32", "bfloat16", "float32, batch norms folded"} <= found
    assert not any(way in name for name in found for way in ("channels", "compiled", "OpenVINO"))


def test_every_network_that_teaches_is_tuned_by_its_name(scripted: dict) -> None:
    objective = [{"loss": "truth"}, {"loss": "kl", "source": "second"}]
    scripted["bfloat16, int8"] = 0.5
    sources = {"second": {"model": "limbeck.zoo:mlp"}}
    found = tune_recipe(validate(grey(teacher=None, sources=sources, objective=objective)))
    assert [*found["options"]] == ["sources.second", "train"]
    assert found["changes"] == {
        "sources.second.precision": "bfloat16",
        "sources.second.optimize.int8": True,
    }


def test_a_way_without_the_modules_that_a_method_takes_is_not_chosen(scripted: dict) -> None:
    scripted["float32, batch norms folded"] = 0.1
    method = {"method": "ofd", "student": "3.1", "theirs": "3.1", "norm": "3.1"}
    student = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4}}
    found = tune_recipe(validate(grey(student=student, objective=[method])))
    row = next(r for r in found["options"]["teacher"] if r["option"].endswith("norms folded"))
    assert row["verdict"].startswith("ofd.norm must be the path of a BatchNorm2d of the teacher")
    assert found["changes"] == {}


def test_students_that_teach_one_another_are_tuned_with_their_teacher(scripted: dict) -> None:
    scripted["bfloat16"] = 0.5
    found = tune_recipe(read(ROOT / "recipes" / "schemes" / "dml-teacher.yaml"))
    assert found["changes"] == {"teacher.precision": "bfloat16", "train.precision": "bfloat16"}


def test_a_step_of_the_student_does_not_ask_the_teacher_again(
    scripted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = assemble(validate(grey()), Ranks())
    batch = next(built.loader.epoch(0))
    asked: list[int] = []
    answer = Frozen.__call__

    def counted(self: Frozen, *arguments: Any) -> Any:
        asked.append(1)
        return answer(self, *arguments)

    monkeypatch.setattr(Frozen, "__call__", counted)
    found = tune_student.tried_students(built, batch)
    weights = [p.clone() for p in built.distiller.student.parameters()]
    assert len(asked) <= 2 * len(found), "to prepare, and once to remember"
    assert all(map(torch.equal, weights, built.distiller.student.parameters()))


def test_files_are_read_by_so_many_processes_as_is_faster(
    small: Make, scripted: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.recipe.build.open_images", partial(open_images, memory=0))
    monkeypatch.setattr(tune_student.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(tune_student, "Reading", lambda built, trainer, count: lambda: 1.0)
    scripted["2"] = 0.5
    found = tune_recipe(validate(small()))
    assert [row["option"] for row in found["options"]["data"]] == ["0", "1", "2"]
    assert found["changes"] == {"data.workers": 2}


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_whole_steps_are_what_reading_is_timed_by(
    small: Make, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr("limbeck.recipe.build.open_images", partial(open_images, memory=0))
    built = assemble(validate(small()), Ranks())
    job = built.job(Run(Path(), writes=False), Ranks())
    with rehearsal(job) as trainer:
        before = [p.clone() for p in trainer.distiller.student.parameters()]
        reading = tune_student.Reading(built, trainer, workers)
        assert all(reading() > 0 for _ in range(2))
        assert not all(map(torch.equal, before, trainer.distiller.student.parameters()))


def test_what_cannot_be_tuned_is_one_line(tmp_path: Path) -> None:
    chain = raw(chain={"generations": 1})
    assert "tune the recipe without its chain" in refused(tune_recipe, validate(chain))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    result = CliRunner().invoke(main, ["tune", str(path), "train.lr=1", "--write"])
    assert result.exit_code == 1
    assert "leave out the overrides" in result.output


def test_a_real_run_on_the_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are real, so nothing is said of them but how they hang together."""
    monkeypatch.setattr(nn.Module, "compile", lambda self: None)  # which would take a minute
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    told = tuned(path, "--json", "--write")
    assert {*told["options"]} == {"teacher", "train"}
    for part in told["options"].values():
        timed = [row for row in part if row["seconds"] is not None]
        best = next((row for row in part if row["verdict"] == "chosen"), part[0])
        assert part[0]["ratio"] == part[0]["gain"] == 1
        assert all(row["seconds"] > 0 for row in timed)
        assert best["gain"] >= 1
    exact = next(row for row in told["options"]["teacher"] if row["option"] == "float32")
    assert (exact["error"], exact["changed"]) == (0, 0)
    half = next(row for row in told["options"]["teacher"] if row["option"] == "bfloat16")
    assert 0 < half["error"] < 0.1
    if not told["changes"]:
        assert path.read_text() == RECIPE
    assert comments(path.read_text()) == comments(RECIPE)
    again = read(path)
    for key, value in told["changes"].items():
        where: Any = again
        for name in key.split("."):
            where = getattr(where, name)
        assert where == value
    assert "times as fast" in table(told)


@pytest.mark.slow
def test_a_real_run_compiles_too(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    told = tuned(path, "--json")
    starts = {row["option"]: row["start"] for row in told["options"]["train"]}
    assert starts["float32, compiled"] > starts["float32"], "a start of seconds"
