"""What the command line does with a recipe, run in this process on a folder of real JPEGs."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.raws import problems, refused
from tests.recipe.runs import Steps, timeless
from torch import nn

from limbeck import zoo
from limbeck.checkpoint import save_weights
from limbeck.recipe import compare_recipe, evaluate_run, load, run, validate
from limbeck.recipe import pipeline as pipelines
from limbeck.recipe.arms import DISTILLED, HARD, LABELS, arms_of, chosen
from limbeck.sources import Frozen
from limbeck.train.loop import Trainer

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
FIT = {"epochs": 2, "batch_size": 6, "lr": 0.05, "log_every": 1}


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


def test_a_run_leaves_its_recipe_its_student_and_its_evaluation(
    small: Make, tmp_path: Path
) -> None:
    recipe = validate(small())
    document = run(recipe, tmp_path / "run")
    written = json.loads((tmp_path / "run/evaluation.json").read_text())
    assert written == document
    assert document["split"] == recipe.data.valid
    assert document["teacher"]["parameters"] == 1039
    assert timeless(evaluate_run(tmp_path / "run")) == timeless(document)
    assert records(tmp_path / "run", "eval")[-1]["top1"] == document["top1"]


def test_a_students_file_loads_into_the_plain_model(small: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(validate(small()), folder)
    fresh = zoo.mlp(3, 4, 3, 8)
    fresh.load_state_dict(load_file(folder / "student.safetensors"), strict=True)
    assert all(map(torch.equal, fresh.state_dict().values(), load(folder).state_dict().values()))


def test_an_averaged_student_is_what_is_evaluated(small: Make, tmp_path: Path) -> None:
    """Its numbers are those of the file that ships, not of the weights that it follows."""
    folder = tmp_path / "run"
    document = run(validate(small(train={**small()["train"], "ema": 0.9})), folder)
    assert timeless(evaluate_run(folder)) == timeless(document)
    assert records(folder, "eval")[-1]["nll"] == pytest.approx(document["nll"], rel=1e-6)


def test_doubts_about_a_teacher_are_logged(
    small: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "run"
    with caplog.at_level(logging.WARNING, logger="limbeck"):
        run(validate(small()), folder)
    assert "has fresh weights, unless it loads its own" in caplog.text


# ---- mistakes before anything is written


def test_a_recipe_that_does_not_fit_leaves_no_folder(small: Make, tmp_path: Path) -> None:
    raw = small(objective=[{"loss": "hint", "student": "4", "theirs": "8"}], teacher__fit=FIT)
    refused(run, validate(raw), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run(validate(small()), tmp_path / "run")


def test_layers_are_wrong_before_a_teacher_is_fitted(
    small: Make, tmp_path: Path, steps: Steps
) -> None:
    raw = small(objective=[{"loss": "kl", "theirs": "output.logits"}], teacher__fit=FIT)
    assert "output.logits" in refused(run, validate(raw), tmp_path / "run")
    raw = small(objective=[{"loss": "hint", "student": "4", "theirs": "8"}], teacher__fit=FIT)
    refused(run, validate(raw), tmp_path / "other")
    assert steps.taken == 0


# ---- going on


def test_a_changed_recipe_lists_the_changes_and_how_to_go_on(small: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(validate(small()), folder)
    changed = small(objective__1__temperature=2, seed=3, compare={"seeds": 9})
    changed["train"]["lr"] = 0.1
    found = problems(run, validate(changed), folder, resume=True)
    assert found == [
        f"{folder} was made by another recipe, so going on would not equal any run: "
        "undo these changes, or train in a new folder",
        "objective.1.temperature: 4 became 2",
        "seed: 0 became 3",
        "train.lr: 0.05 became 0.1",
    ]


def test_a_run_of_an_older_limbeck_has_the_defaults_of_newer_keys(
    small: Make, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    run(validate(small()), folder)
    path = folder / "recipe.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("task: classification\n", "").replace("  balance: null\n", ""))
    assert "task" not in path.read_text()
    assert "balance" not in path.read_text()
    run(validate(small()), folder, resume=True)
    assert problems(run, validate(small(seed=3)), folder, resume=True)[1:] == ["seed: 0 became 3"]


def test_resuming_where_there_is_nothing_says_so(small: Make, tmp_path: Path) -> None:
    (message,) = problems(run, validate(small()), tmp_path / "none", resume=True)
    assert message == f"{tmp_path / 'none'} holds no run to resume; leave out --resume"
    assert not (tmp_path / "none").exists()


def test_a_full_folder_is_refused_without_a_word_for_it(small: Make, tmp_path: Path) -> None:
    first = run(validate(small()), tmp_path / "run")
    message = refused(run, validate(small()), tmp_path / "run")
    assert "go on with --resume, start again with --overwrite, or name another" in message
    again = run(validate(small()), tmp_path / "run", overwrite=True)
    assert timeless(again) == timeless(first)
    assert len(records(tmp_path / "run", "done")) == 1


@each("stop", [3, 8, 11])
def test_a_killed_run_goes_on_through_its_teacher(
    stop: int, small: Make, tmp_path: Path, steps: Steps
) -> None:
    """Stopped while the teacher is fitted, right after, and while the student is trained."""
    recipe = validate(small(teacher__fit={**FIT, "save_every": 1}))
    straight = run(recipe, tmp_path / "straight")
    assert steps.taken == 16
    steps.taken, steps.stop = 0, stop
    with pytest.raises(KeyboardInterrupt):
        run(recipe, tmp_path / "broken")
    steps.stop = -1
    broken = run(recipe, tmp_path / "broken", resume=True)
    assert steps.taken == 16 + (stop == 11) * 3
    assert timeless(broken) == timeless(straight)
    for name in ("student.safetensors", "teacher/student.safetensors"):
        one, two = (load_file(tmp_path / folder / name) for folder in ("straight", "broken"))
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_overwriting_fits_another_teacher_anew(small: Make, tmp_path: Path, steps: Steps) -> None:
    run(validate(small(teacher__fit=FIT)), tmp_path / "run")
    before = load_file(tmp_path / "run/teacher/student.safetensors")
    assert steps.taken == 16
    other = validate(small(teacher__fit={**FIT, "lr": 0.01}))
    run(other, tmp_path / "run", overwrite=True)
    assert steps.taken == 32
    after = load_file(tmp_path / "run/teacher/student.safetensors")
    assert not torch.equal(before["10.weight"], after["10.weight"])


def test_a_fitted_teacher_learns_from_the_labels_alone(small: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = validate(small(teacher__fit=FIT, data__labels=6))
    document = run(recipe, folder)
    content = (folder / "teacher/recipe.yaml").read_text()
    assert "unlabelled: false" in content
    assert (folder / "teacher/student.safetensors").is_file()
    fitted = zoo.small_cnn(3, 4, 3).eval()
    fitted.load_state_dict(load_file(folder / "teacher/student.safetensors"))
    assert document["teacher"]["top1"] == records(folder / "teacher", "eval")[-1]["top1"]


# ---- arms


def arms(raw: dict[str, Any]) -> dict[str, Any]:
    return arms_of(validate(raw))


def test_the_arms_of_a_comparison(small: Make) -> None:
    hint = {"loss": "hint", "student": "1", "theirs": "9", "project": "linear", "weight": 0.3}
    recipe = small(data__labels=6)
    recipe["objective"].append(hint)
    made = arms(recipe)
    assert list(made) == [LABELS, HARD, DISTILLED]
    plain = made[LABELS]
    assert [(t.loss, t.weight) for t in plain.objective] == [("truth", 1.0)]
    assert (plain.teacher, plain.data.unlabelled) == (None, False)
    hard = made[HARD]
    assert [(t.loss, t.weight) for t in hard.objective] == [("truth", 0.5), ("hard", 1.0)]
    assert made[DISTILLED] == validate(recipe)
    assert {arm.train for arm in made.values()} == {validate(recipe).train}
    assert {arm.student.model for arm in made.values()} == {"limbeck.zoo:mlp"}


def test_an_arm_of_your_own_is_the_recipe_with_keys_set(small: Make) -> None:
    own = {"hot": {"objective.1.temperature": 20, "data.unlabelled": False}}
    made = arms(small(compare={"arms": own}))["hot"]
    assert made.objective[1].keywords() == {"temperature": 20}
    assert made.data.unlabelled is False


BAD_ARMS: list[tuple[dict[str, Any], str]] = [
    ({"distilled": {}}, "'distilled' is an arm of every comparison already"),
    ({"hot": {"train.epocs": 3}}, "compare.arms.hot: train.epocs: no such key; did you mean 'ep"),
    ({"hot": {"objective.7.weight": 3}}, "compare.arms.hot: objective.7.weight: '7' must be an in"),
]


@each(("own", "says"), BAD_ARMS)
def test_an_arm_that_does_not_fit_is_one_line(own: dict[str, Any], says: str, small: Make) -> None:
    assert says in refused(arms, small(compare={"arms": own}))


def test_a_comparison_needs_something_that_teaches(small: Make) -> None:
    alone = small(teacher=None, objective=[{"loss": "truth"}])
    assert refused(arms, alone) == "a comparison needs a teacher's term in the objective"


def test_arms_are_chosen_by_name(small: Make) -> None:
    made = arms(small())
    assert list(chosen(made, (DISTILLED, LABELS))) == [DISTILLED, LABELS]
    assert chosen(made, ()) == made
    message = refused(chosen, made, ("distiled",))
    assert message.endswith("got 'distiled'; did you mean 'distilled'?")


# ---- comparisons


class Seen:
    """The sample ids of every step of every training, by the folder that it wrote."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: dict[str, list[list[int]]] = {}
        update = Trainer.update

        def noted(trainer: Trainer, batch: Any) -> Any:
            folder = trainer.job.run.folder
            name = f"{folder.parent.name}/{folder.name}"
            self.ids.setdefault(name, []).append(batch.ids.tolist())
            return update(trainer, batch)

        monkeypatch.setattr(Trainer, "update", noted)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    return Seen(monkeypatch)


def test_arms_see_the_same_images_in_the_same_order_with_one_teacher_a_seed(
    small: Make, tmp_path: Path, seen: Seen
) -> None:
    recipe = validate(small(teacher__fit=FIT))
    document = compare_recipe(recipe, tmp_path, seeds=2)
    order = {seed: seen.ids[f"labels-only/seed-{seed}"] for seed in (0, 1)}
    assert order[0] != order[1]
    for seed in (0, 1):
        assert len(order[seed]) == 8
        for arm in ("hard-pseudo-labels", "distilled"):
            assert seen.ids[f"{arm}/seed-{seed}"] == order[seed]
        assert len(seen.ids[f"teachers/seed-{seed}"]) == 8
    assert len(seen.ids) == 8
    runs = [run for arm in document["arms"].values() for run in arm["runs"]]
    assert {(run["steps"], run["images"]) for run in runs} == {(8, 48)}
    assert json.loads((tmp_path / "compare.json").read_text()) == document
    teachers = [run["top1"] for run in document["teacher"]["runs"]]
    for seed in (0, 1):
        for arm in ("hard-pseudo-labels", "distilled"):
            file = tmp_path / f"arms/{arm}/seed-{seed}/evaluation.json"
            assert json.loads(file.read_text())["teacher"]["top1"] == teachers[seed]


def test_arms_have_equal_steps_where_labels_are_withheld(
    small: Make, tmp_path: Path, seen: Seen
) -> None:
    document = compare_recipe(validate(small(data__labels=6)), tmp_path, seeds=1)
    runs = [run for arm in document["arms"].values() for run in arm["runs"]]
    assert {(run["steps"], run["images"]) for run in runs} == {(8, 48)}
    assert seen.ids["distilled/seed-0"] == seen.ids["hard-pseudo-labels/seed-0"]
    labelled = {i for step in seen.ids["labels-only/seed-0"] for i in step}
    assert len(labelled) == 6
    assert document["verdict"]["kind"] == "no gain shown"


@each("stop", [3, 12, 20])
def test_a_stopped_comparison_goes_on_where_it_was(
    stop: int, small: Make, tmp_path: Path, steps: Steps
) -> None:
    """The teacher takes steps 0 to 7; labels only, pseudo-labels and distilled 8 each."""
    recipe = validate(small(teacher__fit=FIT, data__labels=6))
    straight = compare_recipe(recipe, tmp_path / "straight", seeds=1)
    total, steps.taken, steps.stop = steps.taken, 0, stop
    assert total == 32
    with pytest.raises(KeyboardInterrupt):
        compare_recipe(recipe, tmp_path / "broken", seeds=1)
    steps.stop = -1
    broken = compare_recipe(recipe, tmp_path / "broken", seeds=1)
    assert steps.taken <= total + 4
    assert broken["gains"] == straight["gains"]
    scores = [[arm["mean"] for arm in doc["arms"].values()] for doc in (straight, broken)]
    assert scores[0] == scores[1]
    compare_recipe(recipe, tmp_path / "broken", seeds=1)
    assert steps.taken <= total + 4


def test_a_comparison_is_not_continued_with_another_recipe(
    small: Make, tmp_path: Path, steps: Steps
) -> None:
    """Not even where every run is finished."""
    compare_recipe(validate(small()), tmp_path, seeds=1)
    taken = steps.taken
    found = problems(compare_recipe, validate(small(objective__1__temperature=2)), tmp_path, 1)
    assert found[1:] == ["objective.1.temperature: 4 became 2"]
    more = validate(small(compare={"seeds": 2, "arms": {"hot": {"objective.1.temperature": 9}}}))
    assert steps.taken == taken
    document = compare_recipe(more, tmp_path)
    assert steps.taken == taken + 5 * 8
    assert list(document["arms"]) == [LABELS, HARD, DISTILLED, "hot"]


def test_a_teacher_is_not_shared_with_an_arm_that_changes_it(
    small: Make, tmp_path: Path, seen: Seen
) -> None:
    own = {
        "long taught": {"teacher.fit.epochs": 3},
        "labelled part": {"data.unlabelled": False},
    }
    raw = small(teacher__fit=FIT, data__labels=6, compare={"seeds": 1, "arms": own})
    compare_recipe(validate(raw), tmp_path)
    fitted = {name: len(steps) for name, steps in seen.ids.items() if "eachers" in name}
    assert fitted == {"teachers/seed-0": 8}
    assert len(seen.ids["long-taught/seed-0"]) == 12 + 8
    assert len(seen.ids["labelled-part/seed-0"]) == 8


def test_arms_share_what_a_recorded_teacher_said(
    small: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each image is asked for once a view and seed, whichever arm sees it first."""
    asked: list[int] = []
    answer = Frozen.__call__

    def counted(source: Frozen, batch: Any, signals: Any, wants: Any) -> Any:
        asked.append(len(batch.inputs))
        return answer(source, batch, signals, wants)

    monkeypatch.setattr(Frozen, "__call__", counted)
    save_weights(zoo.small_cnn(3, 4, 3), tmp_path / "teacher.safetensors")
    raw = small(
        data__views=1,
        teacher__record=True,
        teacher__checkpoint=str(tmp_path / "teacher.safetensors"),
        compare={"seeds": 1, "arms": {"labelled": {"data.unlabelled": False}}},
    )
    compare_recipe(validate(raw), tmp_path / "out")
    dry_runs = 6
    assert sum(asked) == 24 + dry_runs
    assert (tmp_path / "out/teachers/seed-0/record.safetensors").is_file()


def test_a_record_of_another_teacher_is_refused(small: Make, tmp_path: Path) -> None:
    teacher = zoo.small_cnn(3, 4, 3)
    save_weights(teacher, tmp_path / "teacher.safetensors")
    raw = small(
        data__views=1,
        teacher__record=True,
        teacher__checkpoint=str(tmp_path / "teacher.safetensors"),
    )
    compare_recipe(validate(raw), tmp_path / "out", 1)
    shutil.rmtree(tmp_path / "out/arms")
    nn.init.ones_(teacher[10].bias)
    save_weights(teacher, tmp_path / "teacher.safetensors")
    message = refused(compare_recipe, validate(raw), tmp_path / "out", 1)
    assert "record.safetensors must be a record of " in message


def test_a_comparison_needs_its_two_sides(small: Make, tmp_path: Path) -> None:
    found = problems(compare_recipe, validate(small()), tmp_path, 1, (DISTILLED, HARD))
    assert found == ["a comparison needs the arms 'labels only' and 'distilled'"]


def test_the_part_of_the_data_that_taught_is_told_by_the_lesson(small: Make) -> None:
    made = arms(small(compare={"arms": {"labelled": {"data.unlabelled": False}}}))
    assert pipelines.same_lesson(made["labelled"], made[DISTILLED])
    other = arms(small(compare={"arms": {"sharp": {"teacher.options.width": 8}}}))
    assert not pipelines.same_lesson(other["sharp"], other[DISTILLED])
