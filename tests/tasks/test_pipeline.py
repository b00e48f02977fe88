"""Both tasks through a recipe: train, resume, compare, report, check, export."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from tests.recipe.raws import problems, refused
from tests.tasks.pictures import recipe
from torch import Tensor

from limbeck.check import summary as check_summary
from limbeck.cli import TEMPLATES, main
from limbeck.compare import table
from limbeck.data.images import Images
from limbeck.recipe import (
    assemble,
    check_recipe,
    compare_recipe,
    evaluate_run,
    export_run,
    load,
    read,
    run,
    validate,
)
from limbeck.report import write_report
from limbeck.tasks import TASKS
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
both = each("task", ["multilabel", "regression"])
BETTER: dict[str, Callable[[float], bool]] = {
    "multilabel": lambda score: score > 0.9,
    "regression": lambda score: score < 0.6,
}


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    return {
        name: timeless(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if name not in ("latency_ms", "throughput")
    }


def answers(folder: Path) -> tuple[Tensor, Images]:
    """What the student of a run says of its test images, asked in a plain loop."""
    built = assemble(read(folder / "recipe.yaml", ["teacher.fit=null"]), Ranks())
    test, student = built.splits.test, load(folder)
    with torch.no_grad():
        return student(built.distiller.reader.adapt(test.fetch(torch.arange(len(test))))), test


@both
def test_a_student_learns_from_a_teacher_and_is_measured(task: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    document = run(validate(recipe(tmp_path, task)), folder)
    key = TASKS[task].headline.key
    assert BETTER[task](document[key])
    assert BETTER[task](document["teacher"][key])
    assert json.loads((folder / "evaluation.json").read_text()) == document
    assert timeless(evaluate_run(folder)) == timeless(document)
    first, *_, last = records(folder, "eval")
    assert TASKS[task].headline.sign * (last[key] - first[key]) > 0
    assert records(folder, "train")[-1]["parts"].keys() >= {"truth"}


def test_errors_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    document = run(validate(recipe(tmp_path, "regression")), tmp_path / "run")
    output, test = answers(tmp_path / "run")
    maes, rmses = [], []
    for k in range(3):
        off = [
            float(o - t)
            for o, t in zip(output[:, k], test.labels[:, k], strict=True)
            if not math.isnan(float(t))
        ]
        maes.append(sum(map(abs, off)) / len(off))
        rmses.append(math.sqrt(sum(x * x for x in off) / len(off)))
    assert document["mae"] == pytest.approx(sum(maes) / 3, rel=1e-5)
    assert document["rmse"] == pytest.approx(sum(rmses) / 3, rel=1e-5)
    assert [row["mae"] for row in document["per_class"].values()] == pytest.approx(maes, rel=1e-5)


def test_decisions_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    document = run(validate(recipe(tmp_path, "multilabel")), tmp_path / "run")
    output, test = answers(tmp_path / "run")
    hits = wrong = 0
    for row, flags in zip(output.tolist(), test.labels.tolist(), strict=True):
        for logit, flag in zip(row, flags, strict=True):
            hits += logit > 0 and flag == 1
            wrong += not math.isnan(flag) and (logit > 0) != (flag == 1)
    assert document["micro_f1"] == pytest.approx(2 * hits / (2 * hits + wrong))
    assert document["examples"] == len(test.labelled) == 19


@both
def test_the_best_checkpoint_is_that_of_the_best_epoch(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, saved = tmp_path / "run", []
    kept = "limbeck.train.run.Run.save_best"
    monkeypatch.setattr(kept, lambda run, model: saved.append(len(records(folder, "eval"))))
    raw = recipe(tmp_path, task)
    raw["teacher"]["fit"] = None
    run(validate(raw | {"train": raw["train"] | {"lr": 0.3}}), folder)
    headline = TASKS[task].headline
    scores = [headline.sign * line[headline.key] for line in records(folder, "eval")]
    assert saved == [k + 1 for k in range(len(scores)) if scores[k] > max([-9e9, *scores[:k]])]
    assert len(saved) < len(scores)


@both
def test_a_run_that_stopped_goes_on_to_the_same_bits(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = recipe(tmp_path, task)
    raw["teacher"]["fit"] = None
    raw["train"] |= {"save_every": 2, "accumulate": 4}
    whole = run(validate(raw), tmp_path / "whole")
    update = Trainer.update

    def stopping(trainer: Trainer, batch: Any) -> Any:
        if trainer.step == 7:
            raise KeyboardInterrupt
        return update(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", stopping)
        with pytest.raises(KeyboardInterrupt):
            run(validate(raw), tmp_path / "cut")
    assert timeless(run(validate(raw), tmp_path / "cut", resume=True)) == timeless(whole)
    one, other = (load(tmp_path / name).state_dict() for name in ("cut", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@both
def test_pieces_of_a_batch_weigh_what_they_know(task: str, tmp_path: Path) -> None:
    """One undivided step and one in pieces have the same loss, though targets are unknown."""
    raw = recipe(tmp_path, task)
    raw["teacher"]["fit"] = None
    losses = []
    for pieces in (1, 2, 8):
        train = raw["train"] | {"accumulate": pieces, "max_steps": 4}
        run(validate(raw | {"train": train}), tmp_path / f"run-{pieces}")
        lines = records(tmp_path / f"run-{pieces}", "train")
        losses.append([line["parts"] for line in lines])
    for divided in losses[1:]:
        assert all(a == pytest.approx(b, rel=1e-4) for a, b in zip(losses[0], divided, strict=True))


@both
def test_mixed_targets_train(task: str, tmp_path: Path) -> None:
    raw = recipe(tmp_path, task)
    raw["data"]["augment"] = {"mixup": 0.4, "cutmix": 1.0, "flip": True}
    run(validate(raw | {"train": raw["train"] | {"epochs": 12}}), tmp_path / "run")
    truths = [line["parts"]["truth"] for line in records(tmp_path / "run", "train")]
    assert all(map(math.isfinite, truths))
    assert sum(truths[-10:]) < sum(truths[:10])


# ---- comparing


@both
def test_arms_are_compared_by_the_headline(task: str, tmp_path: Path) -> None:
    headline = TASKS[task].headline
    document = compare_recipe(validate(recipe(tmp_path, task)), tmp_path / "cmp", 2)
    assert document["metric"] == headline.key
    arms = ["labels only", "distilled"]
    if task == "multilabel":
        arms.insert(1, "hard pseudo-labels")
    assert list(document["arms"]) == arms
    ours, theirs = (
        [row[headline.key] for row in document["arms"][arm]["runs"]]
        for arm in ("distilled", "labels only")
    )
    found = next(
        g for g in document["gains"] if (g["arm"], g["against"]) == ("distilled", "labels only")
    )
    assert found["per_seed"] == pytest.approx(
        [headline.sign * (a - b) for a, b in zip(ours, theirs, strict=True)]
    )
    assert document["teacher"]["mean"] == pytest.approx(
        sum(row[headline.key] for row in document["teacher"]["runs"]) / 2
    )
    told = table(document)
    assert told.startswith(document["verdict"]["text"])
    assert ("points (95 %" if task == "multilabel" else "; + is better)") in told
    page = write_report(tmp_path / "cmp").read_text()
    assert f"{headline.label} on valid" in page
    assert "Accuracy" not in page
    assert "Reliability" not in page


@both
def test_the_report_of_a_run(task: str, tmp_path: Path) -> None:
    document = run(validate(recipe(tmp_path, task)), tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    headline = TASKS[task].headline
    assert f"{headline.label} {headline.shown(document[headline.key])}".split(" %")[0] in page
    for measure in TASKS[task].measures:
        assert measure.title in page
    assert f"{TASKS[task].each.label} by class, student" in page
    assert "Top-1" not in page
    assert "Left out" not in page


# ---- checking


@both
def test_a_check_of_a_teacher_that_knows(task: str, tmp_path: Path) -> None:
    raw = recipe(tmp_path, task)
    run(validate(raw), tmp_path / "run")
    raw["teacher"] |= {"fit": None, "checkpoint": tmp_path / "run/teacher/student.safetensors"}
    document = check_recipe(validate(raw))
    assert document["problems"] == []
    assert BETTER[task](document["models"]["teacher"][TASKS[task].headline.key])
    assert document["models"]["student"][TASKS[task].headline.key] is not None
    assert (document["data"]["train"]["labelled"], document["data"]["train"]["unlabelled"]) == (
        32,
        8,
    )


@each(
    ("task", "line"),
    [
        ("multilabel", "the teacher's mAP must be at least "),
        ("regression", "the teacher's R2 must be above 0 (the mean of the targets), got -"),
    ],
)
def test_a_check_of_a_teacher_that_knows_nothing(task: str, line: str, tmp_path: Path) -> None:
    raw = recipe(tmp_path, task, seed=1)
    raw["teacher"]["fit"] = None
    (problem,) = check_recipe(validate(raw))["problems"]
    assert problem.startswith(line)
    assert "on 20 validation images; load trained weights" in problem


def test_a_teacher_of_probabilities_is_a_problem(tmp_path: Path) -> None:
    raw = recipe(tmp_path, "multilabel")
    raw["teacher"] = {"model": "tests.tasks.pictures:sigmoid_net"}
    problem = check_recipe(validate(raw))["problems"][0]
    assert problem.startswith("the teacher must return logits, got probabilities (all in 0..1)")


@both
def test_a_check_without_labelled_validation_images_still_knows_its_task(
    task: str, tmp_path: Path
) -> None:
    raw = recipe(tmp_path, task)
    path = tmp_path / "valid/labels.csv"
    names = [line.split(",")[0] for line in path.read_text().splitlines()[1:]]
    path.write_text("\n".join(["image,red,green,blue", *(f"{name},,," for name in names)]))
    document = check_recipe(validate(raw))
    assert "there are no labelled validation images: no model was judged" in document["notes"]
    table = check_summary(document)
    assert TASKS[task].headline.label in table
    assert "top-1" not in table


def test_counts_are_positives_or_known_targets(tmp_path: Path) -> None:
    for task in ("multilabel", "regression"):
        built = assemble(validate(recipe(tmp_path / task, task)), Ranks())
        labels = built.splits.train.labels
        known = (labels == 1) if task == "multilabel" else ~labels.isnan()
        counts = TASKS[task].counts(built.splits.train)
        assert counts == dict(zip(("red", "green", "blue"), known.sum(0).tolist(), strict=True))


# ---- shipping


@each(
    ("task", "reading"),
    [
        ("multilabel", "print([name for name, logit in zip(CLASSES, logits[0]) if logit > 0])"),
        ("regression", "print(dict(zip(CLASSES, logits[0].tolist())))"),
    ],
)
def test_an_exported_student_says_how_to_read_it(task: str, reading: str, tmp_path: Path) -> None:
    run(validate(recipe(tmp_path, task)), tmp_path / "run")
    export_run(tmp_path / "run", tmp_path / "out", onnx=False)
    assert reading in (tmp_path / "out/README.md").read_text()
    assert (tmp_path / "out/classes.txt").read_text() == "red\ngreen\nblue\n"


# ---- recipes


@each(
    ("task", "loss", "right"),
    [
        ("multilabel", "kl", "binary_kl"),
        ("multilabel", "hard", "binary_hard"),
        ("multilabel", "dkd", "binary_kl"),
        ("regression", "kl", "squared_error"),
        ("regression", "binary_kl", "squared_error"),
    ],
)
def test_a_loss_of_another_task_is_refused(
    task: str, loss: str, right: str, tmp_path: Path
) -> None:
    raw = recipe(tmp_path, task, objective=[{"loss": "truth"}, {"loss": loss}])
    assert problems(validate, raw) == [f"the recipe: {loss} is wrong for task: {task}; use {right}"]
    inside = [{"loss": "truth"}, {"loss": loss, "at": "output_layer"}]
    assert validate(raw | {"objective": inside}).objective[1].at == "output_layer"


def test_smoothing_and_merged_classes_are_those_of_classification(tmp_path: Path) -> None:
    raw = recipe(tmp_path, "multilabel", objective=[{"loss": "truth", "label_smoothing": 0.1}])
    assert "got 'label_smoothing'" in problems(validate, raw)[0]
    raw = recipe(tmp_path, "multilabel")
    raw["teacher"] |= {"classes": ["a", "b"], "class_map": {"red": ["a", "b"]}}
    assert "teacher.class_map merges classes" in problems(validate, raw)[0]


def test_folders_are_for_classification(tmp_path: Path) -> None:
    raw = recipe(tmp_path, "multilabel")
    raw["data"] = {"train": f"folder:{tmp_path}"}
    assert "data must be csv:PATH for several targets" in refused(
        run, validate(raw), tmp_path / "r"
    )


def test_one_number_is_enough(tmp_path: Path) -> None:
    """A network with a single output, labels carved and withheld."""
    raw = recipe(tmp_path, "regression")
    path = tmp_path / "train/labels.csv"
    rows = [line.split(",")[:2] for line in path.read_text().splitlines()]
    (tmp_path / "train/one.csv").write_text("\n".join(map(",".join, rows)))
    raw["data"] = {"train": f"csv:{tmp_path / 'train/one.csv'}", "labels": 20}
    document = run(validate(raw), tmp_path / "run")
    assert document["classes"] == ["red"]
    assert document["per_class"]["red"]["count"] == document["examples"]


@each("task", TEMPLATES)
def test_a_new_recipe_is_of_its_task(task: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    result = CliRunner().invoke(main, ["new", str(path), "--task", task])
    assert result.exit_code == 0
    assert read(path).task == task
