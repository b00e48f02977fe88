"""Recipes of several students beside a teacher and further sources."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.launches import one_and_two, students_survive_a_kill
from tests.recipe.raws import problems, raw
from tests.recipe.runs import Steps
from tests.train.jobs import equal, saved, timeless, weights

from limbeck import Mutual, zoo
from limbeck.check import summary
from limbeck.recipe import (
    assemble,
    check_recipe,
    compare_recipe,
    evaluate_run,
    export_run,
    read,
    run,
    validate,
)
from limbeck.recipe.arms import arms_of
from limbeck.recipe.text import dump, parse
from limbeck.report import write_report
from limbeck.report.records import Comparison
from limbeck.sources import Ema, Past, Recorded
from limbeck.train import train
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
MLP = {"model": "limbeck.zoo:mlp", "options": {"hidden": 4, "channels": 3, "size": 8}}
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
BIG = {"model": "limbeck.zoo:small_cnn", "options": {"width": 8, "channels": 3}}
SOFT = {"loss": "kl", "temperature": 2}
PEERS = {**SOFT, "source": "peers"}
TAUGHT = [{"loss": "truth"}, SOFT, PEERS]
SOURCES: dict[str, Any] = {
    "big": BIG,
    "both": {"kind": "ensemble", "of": ["teacher", "big"], "temperature": 2},
    "one": {"kind": "drawn", "of": ["teacher", "big"]},
    "home": {"kind": "routed", "of": {"teacher": ["ant"], "big": ["bee", "cow"]}},
    "prior": {"kind": "prior"},
    "slow": {"kind": "ema", "decay": 0.8},
    "past": {"kind": "past"},
}


@pytest.fixture
def taught(small: Make) -> Make:
    """Four steps an epoch, two students of the zoo and a teacher."""

    def make(**changes: Any) -> dict[str, Any]:
        given = {
            "student": None,
            "students": {"a": MLP, "b": CNN},
            "teacher": BIG,
            "objective": TAUGHT,
        }
        return small(**copy.deepcopy({**given, **changes}))

    return make


def everything(taught: Make, **changes: Any) -> dict[str, Any]:
    """All kinds of sources at once, and peers."""
    soft = [{**SOFT, "source": name} for name in SOURCES if name != "big"]
    return taught(**{"sources": SOURCES, "objective": [*TAUGHT, *soft], **changes})


def whole(**changes: Any) -> dict[str, Any]:
    given = {"student": None, "students": {"a": MLP, "b": CNN}, "objective": TAUGHT}
    return raw(**copy.deepcopy({**given, **changes}))


# ---- what a recipe may say


@each(
    ("changes", "says"),
    [
        (
            {"data__own_views": True, "data__augment": {"crop": 1}},
            "data.own_views: the teacher answers once for all students, of one variation of an im",
        ),
        (
            {
                "data__own_views": True,
                "data__augment": {"crop": 1},
                "teacher": None,
                "sources": {"big": BIG},
                "objective__1__source": "big",
            },
            "data.own_views: sources.big answers once for all students",
        ),
        (
            {"students": {"teacher": MLP, "b": CNN}},
            "students.teacher: 'teacher' is a source already; name the student otherwise",
        ),
        ({"sources": {"b": BIG}}, "students.b: 'b' is a source already; name the student"),
        ({"sources": {"peers": BIG}}, "sources.peers: 'peers' are the other students; name yours"),
        (
            {"sources": {"v": {"kind": "view"}}},
            "sources.v: the other image of a pair is for a student alone; leave it out",
        ),
        (
            {"sources": {"s": {"kind": "ema"}, "m": {"kind": "drawn", "of": ["teacher", "s"]}}},
            "sources.m.of: 's' is another one for each student, and 'm' is one for all; leave 's'",
        ),
        (
            {"objective__1__source": "bg", "sources": {"big": BIG}},
            "objective.1.source: a source must be one of ['teacher', 'big', 'student', 'data', 'pe",
        ),
        ({"teacher__record": True}, "teacher.record needs data.views"),
    ],
)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, whole(**changes))
    assert says in message


def test_own_views_go_with_sources_that_look_at_no_image() -> None:
    sources = {"slow": {"kind": "ema"}, "prior": {"kind": "prior"}}
    data = {"train": "digits:train", "own_views": True, "augment": {"crop": 1}}
    changes = {"data": data, "sources": sources, "teacher": None}
    assert validate(whole(**changes, objective=[{"loss": "truth"}, PEERS])).data.own_views


def test_a_recipe_is_written_as_it_is_read(taught: Make) -> None:
    made = validate(everything(taught))
    assert validate(parse(dump(made), "it")) == made


# ---- what it makes


def test_networks_are_shared_and_what_is_a_students_own_is_one_for_each(taught: Make) -> None:
    built = assemble(validate(everything(taught)), Ranks())
    mutual = built.distiller
    assert isinstance(mutual, Mutual)
    shared = ["teacher", "big", "both", "one", "home", "prior"]
    assert list(mutual.told) == shared
    assert list(mutual.sources) == [*shared, *(f"{n}/{s}" for n in "ab" for s in ("slow", "past"))]
    assert mutual.sources["both"].sources[0] is mutual.sources["teacher"]
    assert isinstance(mutual.sources["a/slow"], Ema)
    assert isinstance(mutual.sources["b/past"], Past)
    built.rehearse()


def test_students_begin_as_they_do_without_a_teacher(taught: Make) -> None:
    alone = {"teacher": None, "objective": [{"loss": "truth"}, PEERS]}
    found = [assemble(validate(taught(**given)), Ranks()).distiller for given in ({}, alone)]
    assert all(equal(weights(a), weights(b))
               for a, b in zip(*(m.students.values() for m in found), strict=True))  # fmt: skip


CALLS: list[int] = []


def counted(classes: int) -> torch.nn.Module:
    """A teacher that counts how often it runs."""
    made = zoo.small_cnn(classes, 8, 3)
    made.register_forward_hook(lambda *_: CALLS.append(1))
    return made


@each("record", [False, True])
def test_the_teacher_runs_once_a_step_or_once_an_image(
    record: bool, taught: Make, tmp_path: Path
) -> None:
    """Over two epochs of four steps, after the forward with which it is prepared."""
    data = {**taught()["data"], **({"views": 1} if record else {})}
    teacher = {"model": f"{__name__}:counted", "record": record}
    built = assemble(validate(taught(data=data, teacher=teacher)), Ranks())
    CALLS.clear()
    train(built.job(Run(tmp_path / "run"), Ranks()))
    assert len(CALLS) == 1 + (4 if record else 8)
    assert isinstance(built.distiller.sources["teacher"], Recorded) == record


def test_methods_that_read_a_teacher_teach_every_student(taught: Make, tmp_path: Path) -> None:
    given = taught(objective=[{"method": "dkd"}, PEERS], train__max_steps=2)
    run(validate(given), tmp_path / "run")
    (line, *_) = [row for row in timeless(tmp_path / "run") if row["kind"] == "train"]
    assert list(line["parts"]) == [
        f"{name}/{part}" for name in "ab" for part in ("truth", "dkd", "kl")
    ]


def test_teachers_of_one_term_share_it(taught: Make) -> None:
    given = taught(sources={"big": BIG}, dense={"of": ["teacher", "big"], "drop": 0.5})
    built = assemble(validate(given), Ranks())
    built.rehearse()
    parts = built.distiller.distiller("b").objective.parts()
    assert sorted(parts) == ["kl", "kl:big", "kl:teacher", "truth"]


# ---- a run


def test_a_run_with_all_sources_goes_on_to_the_same_bits(
    taught: Make, tmp_path: Path, steps: Steps
) -> None:
    given = everything(taught)
    given["train"] |= {"ema": 0.9, "save_every": 1}
    made = validate(given)
    run(made, tmp_path / "straight")
    steps.taken, steps.stop = 0, 5
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken")
    steps.stop = -1
    torch.manual_seed(5)
    run(made, tmp_path / "broken", resume=True)
    assert equal(saved(tmp_path / "broken"), saved(tmp_path / "straight"))
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "straight")
    kept = saved(tmp_path / "straight")["sources"]
    stateful = {"one", "a/slow", "a/past", "b/slow", "b/past"}
    assert {name for name, state in kept.items() if state} == stateful
    assert int(kept["one"]["step"]) == 8


def test_every_student_is_judged_beside_the_teacher(taught: Make, tmp_path: Path) -> None:
    document = run(validate(taught(train__max_steps=2)), tmp_path / "run")
    assert document["teacher"]["parameters"] > document["students"]["b"]["parameters"]
    for name in (*"ab", "ensemble"):
        found = {**document["students"], "ensemble": document["ensemble"]}[name]
        assert found["retention"] == pytest.approx(found["top1"] / document["teacher"]["top1"])
        assert found["teacher"] is None
    assert document["agreement"] == document["students"]["a"]["agreement"] is not None
    assert evaluate_run(tmp_path / "run")["top1"] == document["top1"]
    page = " ".join(write_report(tmp_path / "run").read_text().split())
    assert '<th scope="col">ensemble</th><th scope="col">teacher</th>' in page.replace("> <", "><")
    assert "what students learn from a teacher or from one another" in page


def test_any_student_ships_plain(taught: Make, tmp_path: Path) -> None:
    run(validate(everything(taught, train__max_steps=2)), tmp_path / "run")
    for name, fresh in (("a", zoo.mlp(3, 4, 3, 8)), ("b", zoo.small_cnn(3, 4, 3))):
        export_run(tmp_path / "run", tmp_path / name, onnx=False, student=name)
        fresh.load_state_dict(load_file(tmp_path / name / "student.safetensors"), strict=True)


def test_teachers_are_fitted_before_students_learn(taught: Make, tmp_path: Path) -> None:
    fit = {"epochs": 1, "batch_size": 6, "max_steps": 2}
    given = taught(teacher={**BIG, "fit": fit}, train__max_steps=2, teach="mean")
    document = run(validate(given), tmp_path / "run")
    file = load_file(tmp_path / "run/teacher/student.safetensors")
    assert file.keys() == zoo.small_cnn(3, 8, 3).state_dict().keys()
    assert not (tmp_path / "run/teacher/students").exists()
    assert document["teacher"] is not None


# ---- before it is trained


def test_a_check_says_what_all_cost(taught: Make) -> None:
    document = check_recipe(validate(everything(taught)))
    names = ["a", "b", "teacher", "big", "both", "one", "home", "a/slow", "b/slow"]
    assert list(document["models"]) == names
    kept = document["memory"]["past"]
    assert {n: (row["samples"], row["numbers"]) for n, (row,) in kept.items()} == {
        "a/past": (24, 3), "b/past": (24, 3),
    }  # fmt: skip
    rows = {row["name"]: row for row in document["terms"]}
    assert {"a/kl", "a/kl:peers", "a/kl:both", "b/kl:slow", "b/kl:past"} <= rows.keys()
    still = [name for name, row in rows.items() if row["gradient_norm"] == 0]
    assert still == ["a/kl:slow", "a/kl:past", "b/kl:past"]  # b's average has other statistics
    assert document["models"]["teacher"]["agreement"] is not None
    assert document["step"]["teacher_ms"] > 0
    assert "a/past: 24 x 3 half floats" in summary(document)


def test_a_record_has_what_any_student_asks(taught: Make) -> None:
    data = {**taught()["data"], "views": 2}
    given = taught(data=data, teacher={**BIG, "record": True})
    memory = check_recipe(validate(given))["memory"]
    assert memory["record"] == 4 * 2 * 24 * 3  # bytes, views, images, classes


def test_a_check_leaves_no_trace(taught: Make) -> None:
    made = validate(everything(taught))
    found = []
    for checked in (False, True):
        if checked:
            check_recipe(made)
        built = assemble(made, Ranks())
        built.rehearse()
        found.append(weights(built.distiller))
    assert equal(*found)


def test_a_student_larger_than_its_teacher_is_named(taught: Make) -> None:
    wide = {**CNN, "options": {"width": 16, "channels": 3}}
    document = check_recipe(validate(taught(students={"a": MLP, "b": wide})))
    assert any(line.startswith("the student 'b' has ") for line in document["warnings"])


# ---- is it the teacher, or the peers?


def test_each_gain_has_an_arm_of_its_own(taught: Make) -> None:
    arms = arms_of(validate(taught(teach="mean")))
    assert list(arms) == [
        "labels only", "hard pseudo-labels", "distilled", "mutual", "distilled and mutual",
    ]  # fmt: skip
    asked = {
        name: {source for entry in made.objective for source in entry.asks} - {"student", "data"}
        for name, made in arms.items()
    }
    assert asked == {
        "labels only": set(),
        "hard pseudo-labels": {"teacher"},
        "distilled": {"teacher"},
        "mutual": {"peers"},
        "distilled and mutual": {"teacher", "peers"},
    }
    assert [made.teach for made in arms.values()] == ["each", "each", "each", "mean", "mean"]
    assert arms["mutual"].teacher is None
    begun = [assemble(made, Ranks()).distiller for made in arms.values()]
    for others in begun[1:]:
        assert all(
            equal(weights(student), weights(begun[0].students[name]))
            for name, student in others.students.items()
        )


def test_students_of_a_teacher_alone_are_distilled(taught: Make) -> None:
    arms = arms_of(validate(taught(objective=TAUGHT[:2])))
    assert list(arms) == ["labels only", "hard pseudo-labels", "distilled"]


def test_a_method_of_the_teacher_leaves_its_labels(taught: Make) -> None:
    arms = arms_of(validate(taught(objective=[{"method": "dkd"}, PEERS])))
    assert [entry.loss for entry in arms["mutual"].objective] == ["truth", "kl"]


def test_a_comparison_fits_one_teacher_a_seed_for_all_arms(taught: Make, tmp_path: Path) -> None:
    fit = {"epochs": 1, "batch_size": 6, "max_steps": 2}
    train = {"epochs": 1, "batch_size": 6, "max_steps": 2}
    made = validate(taught(teacher={**BIG, "fit": fit}, train=train))
    document = compare_recipe(made, tmp_path, seeds=1, only=("labels only", "distilled and mutual"))
    assert document["subject"] == "distilled and mutual, a"
    assert document["baseline"] == "labels only, a"
    assert [path.name for path in (tmp_path / "teachers").iterdir()] == ["seed-0"]
    assert document["teacher"]["runs"][0]["seed"] == 0
    assert Comparison.model_validate(document).who == "a teacher beside its peers"


# ---- stopped, and on two ranks


RECIPE = """
data: {{train: "folder:{folder}", valid: "folder:{folder}", augment: {{crop: 1, flip: true}}}}
students:
  a: {{model: "tests.train.jobs:{a}"}}
  b: {{model: "tests.train.jobs:net", options: {{width: 6, seed: 1}}}}
teacher: {{model: "tests.train.jobs:net", options: {{width: 12, seed: 2}}}}
sources:
  big: {{model: "tests.train.jobs:net", options: {{width: 10, seed: 3}}}}
  one: {{kind: drawn, of: [teacher, big]}}
  slow: {{kind: ema, decay: 0.8}}
objective:
  - {{loss: truth}}
  - {{loss: kl, source: peers, temperature: 2}}
  - {{loss: kl, temperature: 2}}
  - {{loss: kl, source: one, temperature: 2}}
  - {{loss: kl, source: slow, temperature: 2}}
  - {{loss: hint, at: conv, project: conv, weight: 0.1}}
train: {{epochs: {epochs}, batch_size: {rows}, optimizer: AdamW, lr: 0.01, log_every: 1,
         save_every: 7, evaluate_every: 4, threads: 1, accumulate: {accumulate}}}
"""


def test_killed_after_a_checkpoint_and_resumed_the_students_are_the_same(
    noisy: Path, tmp_path: Path
) -> None:
    students_survive_a_kill(RECIPE, noisy, tmp_path)


def test_two_ranks_equal_one_process(noisy: Path, tmp_path: Path) -> None:
    """In float32, whose rounding is all that differs; in float64 see the schemes' tests."""
    one, two = one_and_two(RECIPE, noisy, tmp_path)
    for name, value in one["distiller"].items():
        torch.testing.assert_close(two["distiller"][name], value, rtol=0, atol=1e-5)
    assert int(two["sources"]["one"]["step"]) == 9
    assert json.loads((tmp_path / "two/evaluation.json").read_text())["teacher"] is not None
    assert read(tmp_path / "two/recipe.yaml").teacher is not None
