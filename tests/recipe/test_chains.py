"""Chains of trainings: their stages, what they leave, and how they go on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner
from safetensors.torch import load_file
from tests.recipe.raws import problems, recipe, refused
from tests.recipe.runs import Steps, timeless
from torch import Tensor, nn

from limbeck import losses
from limbeck.check import summary
from limbeck.cli import main
from limbeck.data import in_order
from limbeck.inputs import Preprocess
from limbeck.recipe import Recipe, check_recipe, compare_recipe, evaluate_run, load, read, run
from limbeck.recipe import validate as valid
from limbeck.recipe.arms import DIRECT, DISTILLED, HARD, LABELS, arms_of
from limbeck.recipe.build import open_splits
from limbeck.recipe.chains import direct, links, taught
from limbeck.report import write_report
from limbeck.schemes.chains import Stage

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]
BORN = {"generations": 2}


def mlp(hidden: int, **more: Any) -> dict[str, Any]:
    options = {"hidden": hidden, "channels": 3, "size": 8}
    return {"model": "limbeck.zoo:mlp", "options": options, **more}


TAKD = {"assistants": [mlp(6), mlp(5)]}
DGKD = {**TAKD, "dense": True, "drop": 0.5}


def equal(one: Path, two: Path) -> bool:
    """Whether two run folders hold the same student."""
    first, second = (load_file(folder / "student.safetensors") for folder in (one, two))
    return all(torch.equal(first[key], second[key]) for key in first)


# ---- what a recipe may say


@each(
    ("changes", "says"),
    [
        ({"chain": {}}, "chain: a chain has generations or assistants; name one of them"),
        (
            {"chain": {**BORN, **TAKD}},
            "chain: a chain has generations or assistants; name one of them",
        ),
        (
            {"chain": {**BORN, "dense": True}},
            "chain: dense is for assistants; a generation learns from the one before",
        ),
        (
            {"chain": {**TAKD, "drop": 0.5}},
            "chain: drop leaves out teachers of a dense chain; set dense: true",
        ),
        (
            {"chain": {"generatons": 2}},
            "chain.generatons: no such key; did you mean 'generations'?",
        ),
        (
            {"chain": {"assistants": [{"model": "limbeck.zoo:mlp", "hiden": 3}]}},
            "chain.assistants.0.hiden: no such key; there are ",
        ),
        (
            {"chain": TAKD, "objective": [{"loss": "truth"}]},
            "the recipe: a chain needs a teacher's term in the objective, or its stages learn "
            "nothing from each other",
        ),
        (
            {"dense": {"of": ["teacher"]}, "objective": [{"loss": "truth"}]},
            "the recipe: dense shares the teacher's terms, but the objective has none",
        ),
        (
            {"dense": {"of": ["teacher", "teecher"]}},
            "the recipe: dense.of must be of ['teacher'], got 'teecher'; did you mean 'teacher'?",
        ),
    ],
)
def test_what_no_chain_can_be_is_refused(changes: dict[str, Any], says: str) -> None:
    assert any(line.startswith(says) for line in problems(recipe, **changes))


def test_assistants_need_a_teacher_and_generations_do_not() -> None:
    lines = problems(recipe, chain=TAKD, teacher=None)
    assert any("no teacher" in line or "the recipe has none" in line for line in lines)
    assert recipe(chain=BORN, teacher=None).chain is not None


# ---- stages as recipes


def test_stages_are_ordinary_recipes_that_differ_in_their_seed(small: Make) -> None:
    made = valid(small(chain=BORN, seed=5))
    found = [link.recipe for link in links(made, Path("out"))]
    assert [link.chain for link in found] == [None] * 3
    assert len({link.seed for link in found}) == 3
    assert found[-1].seed == 5
    assert [link.data.labels_seed for link in found] == [5] * 3
    assert [link.train for link in found] == [made.train] * 3


def test_all_stages_keep_the_same_labels(small: Make) -> None:
    found = links(valid(small(chain=BORN, data__labels=9, seed=4)), Path("out"))
    kept = [open_splits(link.recipe.data, link.recipe.seed).train.labelled for link in found]
    assert all(torch.equal(kept[0], other) for other in kept)
    plain = valid(small(data__labels=9, seed=4))
    assert torch.equal(kept[0], open_splits(plain.data, plain.seed).train.labelled)


def test_an_assistant_may_have_a_training_of_its_own(small: Make) -> None:
    own = {"epochs": 1, "lr": 0.01}
    made = valid(small(chain={"assistants": [mlp(6, train=own), mlp(5)]}))
    first, second, last = [link.recipe.train for link in links(made, Path("out"))]
    assert (first.epochs, first.lr) == (1, 0.01)
    assert second == last == made.train


def test_a_network_teaches_with_the_view_that_it_was_trained_with(
    small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published weights bring a normalisation, which a checkpoint of them does not."""
    own = Preprocess((0.5,), (0.25,), 224)
    monkeypatch.setattr("limbeck.recipe.chains.build", lambda *spec, **options: nn.Identity())
    monkeypatch.setattr("limbeck.recipe.chains.preprocess_of", lambda *spec: own)
    made, path = valid(small(chain=BORN)), Path("student.safetensors")
    model = made.student.model_copy(update={"pretrained": True, "fit_head": True, "image_size": 8})
    block = taught(Stage("one", model, ()), made, path)
    assert (block.mean, block.std, block.image_size) == ((0.5,), (0.25,), 8)
    assert (block.pretrained, block.fit_head, block.checkpoint) == (False, False, path)


# ---- a chain that is run


def test_generations_leave_run_folders_and_the_last_one_at_the_top(
    small: Make, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    document = run(valid(small(chain=BORN, teacher=None)), out)
    names = sorted(path.name for path in (out / "stages").iterdir())
    assert names == ["generation-0", "generation-1"]
    for name in names:
        stage = out / "stages" / name
        assert read(stage / "recipe.yaml").chain is None
        assert timeless(evaluate_run(stage)) == timeless(
            json.loads((stage / "evaluation.json").read_text())
        )
    student = load(out).state_dict()
    assert all(
        torch.equal(student[k], v) for k, v in load_file(out / "student.safetensors").items()
    )
    assert timeless(evaluate_run(out)) == timeless(document)
    assert document["teacher"] is None
    page = write_report(out).read_text()
    assert ">Stages</h2>" in page
    assert all(name in page for name in (*names, "generation-2", "all together"))


def test_generation_0_learns_from_labels_and_each_next_one_from_the_one_before(
    small: Make, tmp_path: Path
) -> None:
    """Each is the run that its recipe says, made by hand."""
    out = tmp_path / "run"
    made = valid(small(chain={"generations": 1}, teacher=None))
    run(made, out)
    first = links(made, out)[0]
    labels = arms_of(valid(small()))[LABELS].model_copy(update={"seed": first.recipe.seed})
    run(labels, tmp_path / "labels")
    assert equal(tmp_path / "labels", first.folder)
    teacher = {**small()["student"], "checkpoint": str(first.folder / "student.safetensors")}
    run(valid(small(teacher=teacher)), tmp_path / "second")
    assert equal(tmp_path / "second", out)
    assert not equal(first.folder, out)


def test_the_teacher_of_a_recipe_teaches_generation_0(small: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = valid(small(chain={"generations": 1}))
    document = run(made, out)
    first = links(made, out)[0]
    run(valid(small(seed=first.recipe.seed)), tmp_path / "alone")
    assert equal(tmp_path / "alone", first.folder)
    assert document["teacher"]["parameters"] == 1039


def test_generations_are_evaluated_together_too(small: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = valid(small(chain=BORN, teacher=None))
    run(made, out)
    told = json.loads((out / "chain.json").read_text())
    assert [row["name"] for row in told["stages"]] == [
        "generation-0",
        "generation-1",
        "generation-2",
    ]
    assert [row["steps"] for row in told["stages"]] == [8, 8, 8]
    networks = [load(link.folder) for link in links(made, out)]
    images = open_splits(made.data, made.seed).test
    (batch,) = in_order(images, len(images))
    adapted = made.student.preprocess(None, False)(batch.images)
    with torch.no_grad():
        mean: Tensor = sum(net(adapted).softmax(-1) for net in networks) / 3  # pyrefly: ignore
    nll = float(losses.cross_entropy(mean.log(), images.labels))
    assert told["ensemble"]["nll"] == pytest.approx(nll, rel=1e-5)
    assert told["ensemble"]["parameters"] == 3 * told["stages"][0]["parameters"]


@each("chain", [TAKD, DGKD], ids=["one by one", "dense"])
def test_assistants_end_in_a_student_that_is_judged_beside_the_teacher(
    chain: dict[str, Any], small: Make, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    document = run(valid(small(chain=chain)), out)
    told = json.loads((out / "chain.json").read_text())
    assert [row["name"] for row in told["stages"]] == ["assistant-1", "assistant-2", "student"]
    before = ["teacher", "assistant-1", "assistant-2"]
    expected = [before[: n + 1] if "dense" in chain else before[n : n + 1] for n in range(3)]
    assert [row["teachers"] for row in told["stages"]] == expected
    assert told["ensemble"] is None
    assert document["teacher"]["parameters"] == 1039
    assert document["parameters"] == told["stages"][-1]["parameters"] == 787
    assert timeless(evaluate_run(out)) == timeless(document)
    assert load(out / "stages/assistant-2")[1].out_features == 5  # pyrefly: ignore


def test_a_dense_stage_learns_in_equal_parts_from_all_before_it(
    small: Make, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(valid(small(chain={**TAKD, "dense": True})), out)
    lines = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    parts = next(line["parts"] for line in lines if line["kind"] == "train")
    assert list(parts) == ["truth", "kl:teacher", "kl:assistant-1", "kl:assistant-2"]
    again = read(out / "stages/assistant-2/recipe.yaml")
    assert again.dense is not None
    assert again.dense.of == ["teacher", "assistant-1"]
    assert list(again.sources) == ["assistant-1"]


# ---- stopped and gone on with


@each(("stop", "chain"), [(3, BORN), (8, BORN), (13, DGKD), (19, DGKD)])
def test_a_killed_chain_goes_on_and_repeats_no_stage_that_is_finished(
    stop: int, chain: dict[str, Any], small: Make, tmp_path: Path, steps: Steps
) -> None:
    """Stopped inside of the stages and right after the first; saved after every step."""
    made = valid(small(chain=chain, train__save_every=1))
    straight = run(made, tmp_path / "straight")
    assert steps.taken == 24
    steps.taken, steps.stop = 0, stop
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken")
    steps.stop = -1
    broken = run(made, tmp_path / "broken", resume=True)
    assert steps.taken == 24
    assert timeless(broken) == timeless(straight)
    for one, two in zip(*(links(made, tmp_path / n) for n in ("straight", "broken")), strict=True):
        assert equal(one.folder, two.folder)
    steps.taken = 0
    run(made, tmp_path / "broken", resume=True)
    assert steps.taken == 0


def test_another_chain_is_not_gone_on_with(small: Make, tmp_path: Path) -> None:
    run(valid(small(chain={"generations": 1})), tmp_path / "run")
    other = valid(small(chain=BORN))
    lines = problems(run, other, tmp_path / "run", resume=True)
    assert lines[1:] == ["chain.generations: 1 became 2"]
    run(other, tmp_path / "run", overwrite=True)
    assert (tmp_path / "run/stages/generation-1/evaluation.json").is_file()


def started(arguments: list[str]) -> subprocess.Popen[bytes]:
    """`python -m` in a process of its own, with one thread."""
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_killed_by_the_system_in_each_stage_it_ends_as_if_nothing_had_happened(
    small: Make, tmp_path: Path
) -> None:
    """SIGKILL once the first stage has saved, and once the second has; a third process goes on."""
    raw = small(chain={"generations": 1}, train__save_every=1, train__epochs=12)
    path, out = tmp_path / "recipe.yaml", tmp_path / "broken"
    path.write_text(yaml.safe_dump(raw))
    command, more = ["limbeck", "train", str(path), "--out", str(out)], list[str]()
    for folder in (out / "stages/generation-0", out):
        process = started([*command, *more])
        while process.poll() is None and not (folder / "checkpoints/last.pt").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (folder / "evaluation.json").exists()
        more = ["--resume"]
    stage = out / "stages/generation-0/student.safetensors"
    finished = stage.stat().st_mtime_ns
    assert started([*command, *more]).wait() == 0
    assert stage.stat().st_mtime_ns == finished
    run(read(path), tmp_path / "straight")
    assert equal(tmp_path / "straight", out)


@pytest.mark.slow
def test_two_ranks_train_the_chain_that_one_process_trains(small: Make, tmp_path: Path) -> None:
    """Up to the order of sums in float32; the draws of who is heard are the same."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(small(chain=DGKD)))
    made, two = read(path), tmp_path / "two"
    run(made, tmp_path / "one")
    ranks = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    assert started([*ranks, "limbeck", "train", str(path), "--out", str(two)]).wait() == 0
    for one, other in zip(links(made, tmp_path / "one"), links(made, two), strict=True):
        first, second = (load_file(each.folder / "student.safetensors") for each in (one, other))
        for key, value in first.items():
            torch.testing.assert_close(second[key], value, rtol=0, atol=1e-6)


# ---- looked at before it is trained


def test_a_check_prints_who_teaches_whom_and_how_long_that_takes(small: Make) -> None:
    fit = {"epochs": 1, "batch_size": 6}
    document = check_recipe(valid(small(chain=DGKD, teacher__fit=fit)))
    assert document["problems"] == []  # about weights that are yet to be trained
    rows = document["chain"]
    assert [(row["name"], row["steps"]) for row in rows] == [
        ("assistant-1", 8),
        ("assistant-2", 8),
        ("student", 8),
    ]
    assert rows[-1]["terms"] == ["truth", "kl:teacher", "kl:assistant-1", "kl:assistant-2"]
    run_time = document["run"]
    stages = sum(row["seconds"] for row in rows)
    assert run_time["seconds"] == pytest.approx(stages + run_time["fit_seconds"])
    text = summary(document)
    assert "assistant-2  limbeck.zoo:mlp" in text
    assert "teacher, assistant-1, assistant-2" in text


def test_an_assistant_larger_than_the_teacher_is_a_warning(small: Make) -> None:
    chain = {"assistants": [mlp(40)]}
    warnings = check_recipe(valid(small(chain=chain)))["warnings"]
    assert any(
        line.startswith("assistant-1: the student has 7,843 parameters and its teacher 1,039")
        for line in warnings
    )


def test_an_assistant_of_other_classes_is_refused_before_anything_is_trained(
    small: Make, tmp_path: Path, steps: Steps
) -> None:
    made = valid(small(chain={"assistants": [mlp(6), mlp(5, outputs=7)]}))
    says = "assistant-2: the student must answer with the data's 3 classes, got 7"
    assert refused(run, made, tmp_path / "run").startswith(says)
    assert refused(check_recipe, made).startswith(says)
    assert steps.taken == 0


def test_a_signal_that_a_later_stage_lacks_is_told_before_anything_is_trained(
    small: Make, tmp_path: Path, steps: Steps
) -> None:
    hint = {"loss": "hint", "student": "3", "theirs": "9", "project": "linear"}
    made = valid(small(chain=TAKD, objective=[{"loss": "truth"}, hint]))
    assert refused(run, made, tmp_path / "run").startswith("assistant-2: ")
    assert steps.taken == 0


# ---- compared


def test_a_chain_is_compared_with_its_teacher_alone_at_equal_steps(
    small: Make, tmp_path: Path
) -> None:
    made = valid(small(chain=TAKD))
    arms = arms_of(made)
    assert list(arms) == [LABELS, HARD, DIRECT, DISTILLED]
    assert arms[DIRECT] == direct(made)
    assert [arm.chain is None for arm in arms.values()] == [True, True, True, False]
    document = compare_recipe(made, tmp_path, 1, (LABELS, DIRECT, DISTILLED))
    runs = [arm["runs"][0] for arm in document["arms"].values()]
    assert [each["steps"] for each in runs] == [8, 8, 8]
    assert document["verdict"]["kind"] == "no gain shown"
    again = compare_recipe(made, tmp_path, 1, (LABELS, DIRECT, DISTILLED))
    assert again == document


def test_generations_without_a_teacher_are_compared_with_labels_only(small: Make) -> None:
    assert list(arms_of(valid(small(chain=BORN, teacher=None)))) == [LABELS, DISTILLED]


# ---- recipes to own


def test_a_scheme_is_for_classification(tmp_path: Path) -> None:
    arguments = ["new", str(tmp_path / "mine.yaml"), "--scheme", "generations"]
    made = CliRunner().invoke(main, [*arguments, "--task", "regression"])
    assert (made.exit_code, made.stdout) == (1, "")
    assert "leave out --task or --scheme" in made.stderr
    assert list(tmp_path.iterdir()) == []


@each("scheme", ["generations", "assistants"])
def test_a_new_recipe_of_each_scheme_trains(scheme: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    made = CliRunner().invoke(main, ["new", str(path), "--scheme", scheme])
    assert (made.exit_code, made.stdout) == (0, f"{path}\n")
    short = ["train.max_steps=2"]
    if scheme == "assistants":
        short.append("teacher.fit.max_steps=2")
    found: Recipe = read(path, short)
    assert found.chain is not None
    document = run(found, tmp_path / "run")
    assert document["split"] == "digits:test"
    assert len(json.loads((tmp_path / "run/chain.json").read_text())["stages"]) == 3
