"""Recipes of several students that teach one another, through the command line's functions."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipe.launches import one_and_two, students_survive_a_kill
from tests.recipe.raws import problems, raw, refused
from tests.train.jobs import equal, saved, timeless, weights
from tests.train.test_accumulate import TORCHRUN, launched

from limbeck import Mutual, zoo
from limbeck.cli import main
from limbeck.recipe import (
    check_recipe,
    compare_recipe,
    evaluate_run,
    export_run,
    load,
    read,
    run,
    validate,
)
from limbeck.recipe.arms import arms_of
from limbeck.recipe.build import assemble
from limbeck.recipe.text import dump, parse
from limbeck.report import write_report
from limbeck.train.job import prepare
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
MLP = {"model": "limbeck.zoo:mlp", "options": {"hidden": 4, "channels": 3, "size": 8}}
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
GROUP = {"a": MLP, "b": CNN}
PEERS = [{"loss": "truth"}, {"loss": "kl", "source": "peers", "temperature": 2}]


@pytest.fixture
def group(small: Make) -> Make:
    """Four steps an epoch, two students of the zoo."""

    def make(**changes: Any) -> dict[str, Any]:
        given = {"student": None, "teacher": None, "students": GROUP, "objective": PEERS}
        return small(**copy.deepcopy({**given, **changes}))

    return make


def whole(**changes: Any) -> dict[str, Any]:
    given = {"student": None, "teacher": None, "students": GROUP, "objective": PEERS}
    return raw(**copy.deepcopy({**given, **changes}))


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


# ---- what a recipe may say


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"student": MLP}, "students: a recipe has a student or students; leave one of them out"),
    ({"students": None}, "the recipe: a recipe needs a student, or students that teach one"),
    ({"students": {"a": MLP}}, "students: mutual learning needs at least two students, got ['a']"),
    ({"students": {"a": MLP, "peers": CNN}}, "'peers'"),
    ({"students": {"a/b": MLP, "c": CNN}}, "must be without '.', '/' and ':'"),
    ({"students": {"a": MLP, "ensemble": CNN}}, "students: 'ensemble' is what all students say"),
    ({"students": {"a": MLP, "b": {"modle": 1, "model": MLP["model"]}}}, "students.b.modle: no su"),
    ({"teach": "minlogits"}, "teach: input should be 'each', 'mean', 'naive', 'linear'"),
    ({"objective": [{"loss": "truth"}, {"loss": "kl"}]}, "students write source: peers"),
    ({"objective__1__source": "peer"}, "got 'peer'; did you mean 'peers'?"),
    ({"chain": {"generations": 1}}, "chain: the stages of a chain have one student each; leave it"),
    ({"data__pairs": "class"}, "data.pairs: halves of a batch belong to one student"),
    ({"students__a__exits": 1}, "students.a.exits: exits are for a student alone"),
    ({"data__own_views": True}, "data.own_views: every student sees the same without data.augment"),
    ({"teach": "linear", "data__augment": {"mixup": 0.2}}, "teach: linear reads labels, but mixed"),
    ({"teach": "mean", "objective": [*PEERS, {"loss": "kl", "source": "peers", "name": "sharp"}]},
     "the terms with source: peers, which must be one number, got [2, 1.0]"),
    ({"teach": "mean", "objective__1__temperature": {"schedule": "linear", "start": 4, "stop": 2}},
     "teach: mean needs a temperature that is a number, got a schedule"),
]  # fmt: skip


@each(("changes", "says"), MISTAKES)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, whole(**changes))
    assert says in message


@each(
    ("changes", "says"),
    [
        ({"data__own_views": True}, "data.own_views is for several students; name students"),
        ({"teach": "mean"}, "teach: mean is for several students; name students"),
        ({"objective__1__source": "peers"}, "objective.1.source: a source must be one of"),
    ],
)
def test_a_student_alone_has_no_peers(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, raw(**changes))
    assert says in message


def test_answers_of_all_are_for_classes_that_exclude_each_other() -> None:
    binary = [{"loss": "truth"}, {"loss": "binary_kl", "source": "peers"}]
    changes = {"task": "multilabel", "objective": binary, "data__train": "csv:labels.csv"}
    assert validate(whole(**changes)).teach == "each"
    (message,) = problems(validate, whole(**changes, teach="mean"))
    assert message == (
        "teach: mean combines probabilities of one class an image; with task: multilabel use each"
    )


def test_what_is_wrong_with_students_is_told_with_all_else() -> None:
    made = whole(student=MLP, train__epochs=0)
    assert [line.split(":")[0] for line in problems(validate, made)] == ["students", "train.epochs"]


def test_a_recipe_is_written_as_it_is_read() -> None:
    made = validate(whole(teach="mean", data__own_views=True, data__augment={"crop": 1}))
    again = validate(parse(dump(made), "it"))
    assert again == made
    assert again.student == again.students["a"]
    assert "student" not in parse(dump(made), "it")


# ---- what it makes


def test_students_of_one_kind_begin_apart_and_alike_in_each_build(group: Make) -> None:
    made = validate(group(students={"a": MLP, "b": MLP}))
    one, two = (assemble(made, Ranks()).distiller for _ in range(2))
    assert isinstance(one, Mutual)
    assert equal(one.state_dict(), two.state_dict())
    a, b = one.students.values()
    assert not torch.equal(next(a.parameters()), next(b.parameters()))


def test_each_student_sees_its_own_view_where_the_recipe_says_so(group: Make) -> None:
    shown = []
    for own in (False, True):
        data = {**group()["data"], "augment": {"crop": 2, "flip": True}, "own_views": own}
        built = assemble(validate(group(data=data)), Ranks())
        batch = next(built.loader.epoch(0))
        mutual = built.distiller
        assert isinstance(mutual, Mutual)
        shown.append([mutual.readers[name].adapt(batch.images) for name in "ab"])
    (same, too), (first, second) = shown
    assert torch.equal(same, too)
    assert torch.equal(first, same)
    assert not torch.equal(first, second)


@each("teach", ["mean", "naive", "linear", "minlogit", "general"])
def test_a_teaching_is_softened_by_the_temperature_of_its_terms(teach: str, group: Make) -> None:
    mutual = assemble(validate(group(teach=teach)), Ranks()).distiller
    assert isinstance(mutual, Mutual)
    assert mutual.teaching.rule == teach
    assert mutual.teaching.temperature == 2


def test_a_student_that_cannot_be_built_is_named(group: Make) -> None:
    wrong = {**CNN, "options": {"width": 4, "channels": 1}}
    made = validate(group(students={"a": MLP, "b": wrong}))
    assert refused(assemble, made, Ranks()).startswith("students.b: a model must take images")


# ---- a run


@pytest.fixture
def finished(group: Make, tmp_path: Path) -> Path:
    made = group(train={**group()["train"], "ema": 0.5})
    run(validate(made), tmp_path / "run")
    return tmp_path / "run"


def test_a_run_judges_every_student_and_all_together(finished: Path) -> None:
    """The ensemble is the mean of probabilities: by hand, from the saved files."""
    document = json.loads((finished / "evaluation.json").read_text())
    built = assemble(read(finished / "recipe.yaml"), Ranks())
    test, readers = built.splits.test, built.distiller.readers
    p = []
    for name, reader in readers.items():
        reader.model.load_state_dict(load_file(finished / "students" / f"{name}.safetensors"))
        with torch.no_grad():
            logits = reader.model.eval()(reader.adapt(test.fetch(torch.arange(len(test)))))
        p.append(logits.double().softmax(-1))
    answers = {"a": p[0], "b": p[1], "ensemble": (p[0] + p[1]) / 2}
    assert document["student"] == "a"
    for name, q in answers.items():
        found = {**document["students"], "ensemble": document["ensemble"]}[name]
        nll = -q.gather(1, test.labels[:, None]).log().mean()
        assert found["nll"] == pytest.approx(float(nll), rel=1e-5)
        assert found["top1"] == pytest.approx(float((q.argmax(1) == test.labels).double().mean()))
    assert document["top1"] == document["students"]["a"]["top1"]
    assert document["ensemble"]["parameters"] == sum(
        document["students"][name]["parameters"] for name in "ab"
    )


def test_a_run_is_evaluated_loaded_and_shipped_again(finished: Path, tmp_path: Path) -> None:
    before = json.loads((finished / "evaluation.json").read_text())
    again = evaluate_run(finished)
    assert [again["students"][n]["nll"] for n in "ab"] == [
        before["students"][n]["nll"] for n in "ab"
    ]
    for student, fresh in (("a", zoo.mlp(3, 4, 3, 8)), ("b", zoo.small_cnn(3, 4, 3))):
        file = load_file(finished / "students" / f"{student}.safetensors")
        fresh.load_state_dict(file, strict=True)
        assert equal(weights(load(finished, student)), file)
        document = export_run(finished, tmp_path / student, onnx=False, student=student)
        assert document["model"] == GROUP[student]["model"]
        assert equal(load_file(tmp_path / student / "student.safetensors"), file)
    assert equal(weights(load(finished)), load_file(finished / "student.safetensors"))
    assert equal(weights(load(finished)), weights(load(finished, "a")))
    assert refused(load, finished, "c") == "students are ['a', 'b'], got 'c'"


def test_a_run_of_one_student_has_no_other(small: Make, tmp_path: Path) -> None:
    run(validate(small(train__max_steps=1)), tmp_path / "run")
    assert refused(load, tmp_path / "run", "a") == "this run has one student, got 'a'"


def test_the_report_of_a_run_shows_every_student(finished: Path) -> None:
    page = write_report(finished).read_text()
    assert '<th scope="col">ensemble</th>' in page.replace("\n", "")
    assert "Of the students a, b this is a." in page
    assert "each trained by labels alone" in page
    assert "its teacher" not in page


def test_students_are_checked_before_they_are_trained(group: Make) -> None:
    document = check_recipe(validate(group(objective=[
        {"loss": "truth"}, {"loss": "kl", "source": "peers", "temperature": 2},
        {"loss": "hint", "student": "output", "source": "peers", "project": "linear"},
    ])))  # fmt: skip
    rows = {row["name"]: row for row in document["terms"]}
    assert list(rows) == [f"{name}/{part}" for name in "ab" for part in ("truth", "kl", "hint")]
    assert rows["b/kl"]["student"] == {"signal": "output", "shape": [6, 3]}
    assert rows["a/hint"]["projector"]["parameters"] == 12
    assert all(row["gradient_norm"] > 0 for row in rows.values())
    assert {name: m["parameters"] for name, m in document["models"].items()} == {
        name: sum(p.numel() for p in assemble(validate(group()), Ranks())
                  .distiller.students[name].parameters()) for name in "ab"
    }  # fmt: skip
    assert document["problems"] == []
    assert document["loss"] == pytest.approx(sum(row["value"] for row in rows.values()))
    assert document["step"]["student_ms"] > 0


def test_a_check_leaves_no_trace_on_the_students(group: Make) -> None:
    """As `check` of one student: the training after it is the training without it."""
    made = validate(group())
    built = assemble(made, Ranks())
    before = weights(built.distiller)
    check_recipe(made)
    prepare(built.distiller, built.loader, torch.device("cpu"), made.asked)
    assert equal(weights(built.distiller), before)


# ---- stopped, and on two ranks


RECIPE = """
data: {{train: "folder:{folder}", valid: "folder:{folder}", augment: {{crop: 1, flip: true}},
        own_views: true}}
students:
  a: {{model: "tests.train.jobs:{a}", mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
  b: {{model: "tests.train.jobs:net", options: {{width: 6, seed: 1}}}}
objective:
  - {{loss: truth}}
  - {{loss: kl, source: peers, temperature: {{schedule: linear, start: 4, stop: 2}}}}
  - {{loss: hint, at: conv, source: peers, project: conv, weight: 0.1}}
train: {{epochs: {epochs}, batch_size: {rows}, optimizer: AdamW, lr: 0.01, ema: 0.9, log_every: 1,
         save_every: 7, evaluate_every: 4, threads: 1, accumulate: {accumulate}}}
"""


def test_killed_after_a_checkpoint_and_resumed_the_students_are_the_same(
    noisy: Path, tmp_path: Path
) -> None:
    students_survive_a_kill(RECIPE, noisy, tmp_path)


def test_two_ranks_equal_one_process(noisy: Path, tmp_path: Path) -> None:
    one, two = one_and_two(RECIPE, noisy, tmp_path)
    flat = [
        {**state["distiller"], **{(n, k): v for n in "ab" for k, v in state["average"][n].items()}}
        for state in (one, two)
    ]
    for name, value in flat[0].items():
        torch.testing.assert_close(flat[1][name], value, rtol=0, atol=1e-6)
    lines = [line for line in timeless(tmp_path / "two") if line["kind"] == "eval"]
    assert [line["student"] for line in lines] == ["a", "b"]


def test_students_are_weighed_in_a_run_of_two_ranks(noisy: Path, tmp_path: Path) -> None:
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "run"
    given = {"a": "net", "epochs": 1, "rows": 12, "accumulate": 1}
    text = RECIPE.format(folder=noisy, **given).replace(
        "{schedule: linear, start: 4, stop: 2}", "2"
    )
    lines = [line for line in text.splitlines() if "hint" not in line]
    recipe.write_text("\n".join([*lines, "teach: general"]))
    launched(*TORCHRUN, "-m", "limbeck", "train", str(recipe), "--out", str(out))
    found = saved(out)["distiller"]["teaching.weights"]
    assert float(found.sum()) == pytest.approx(1)
    assert found.tolist() != [0.5, 0.5]


# ---- is it the peers?


def test_the_other_arm_trains_the_same_students_on_labels_alone(group: Make) -> None:
    made = validate(group(teach="mean", compare={"arms": {"in turn": {"teach": "each"}}}))
    arms = arms_of(made)
    assert list(arms) == ["labels only", "mutual", "in turn"]
    alone = arms["labels only"]
    assert [term.loss for term in alone.objective] == ["truth"]
    assert (alone.teach, alone.students) == ("each", made.students)
    begun = [assemble(each, Ranks()).distiller for each in (alone, made)]
    assert all(equal(weights(a), weights(b))
               for a, b in zip(*(m.students.values() for m in begun), strict=True))  # fmt: skip


def test_students_are_compared_each_with_itself_paired_by_seed(group: Make, tmp_path: Path) -> None:
    made = validate(group(train={"epochs": 1, "batch_size": 6, "max_steps": 2}))
    document = compare_recipe(made, tmp_path, seeds=2)
    names = ["a", "b", "ensemble"]
    assert list(document["arms"]) == [
        f"{arm}, {n}" for arm in ("labels only", "mutual") for n in names
    ]
    assert [(g["arm"], g["against"]) for g in document["gains"]] == [
        (f"mutual, {name}", f"labels only, {name}") for name in names
    ]
    assert (document["subject"], document["baseline"]) == ("mutual, a", "labels only, a")
    for name, gain in zip(names, document["gains"], strict=True):
        pairs = []
        for seed in (0, 1):
            scores = []
            for arm in ("mutual", "labels-only"):
                path = tmp_path / "arms" / arm / f"seed-{seed}" / "evaluation.json"
                found = json.loads(path.read_text())
                scores.append({**found["students"], "ensemble": found["ensemble"]}[name]["top1"])
            pairs.append(scores[0] - scores[1])
        assert gain["per_seed"] == pytest.approx(pairs)
    page = write_report(tmp_path).read_text()
    assert "mutual, ensemble" in page
    assert "the company of its peers" in page
    again = compare_recipe(made, tmp_path, seeds=2)
    assert again["gains"] == document["gains"]


# ---- a recipe to own


def test_a_new_recipe_of_students_trains_on_digits(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    assert CliRunner().invoke(main, ["new", str(path), "--scheme", "mutual"]).exit_code == 0
    made = read(path, ["train.epochs=1", "train.max_steps=3"])
    assert list(yaml.safe_load(path.read_text())["students"]) == list(made.students)
    document = run(made, tmp_path / "run")
    assert list(document["students"]) == ["small", "wide"]
    assert len(records(tmp_path / "run", "eval")) == 2
    shipped = CliRunner().invoke(
        main, ["export", str(tmp_path / "run"), "--out", str(tmp_path / "s"), "--no-onnx",
               "--student", "wide"],
    )  # fmt: skip
    assert shipped.exit_code == 0, shipped.output
    assert (
        load_file(tmp_path / "s/student.safetensors").keys()
        == zoo.small_cnn(10, 16, 1).state_dict().keys()
    )
