"""Recipes of a student with branches on one trunk, whose ensemble teaches each (ONE)."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.recipe.raws import problems, raw, refused
from tests.recipe.runs import Steps
from tests.train.jobs import equal, saved, timeless, weights
from tests.train.test_accumulate import TORCHRUN, launched

from limbeck import zoo
from limbeck.exits import Branched
from limbeck.recipe import (
    assemble,
    check_recipe,
    evaluate_run,
    export_run,
    load,
    run,
    validate,
)
from limbeck.recipe.arms import arms_of
from limbeck.recipe.text import dump, parse
from limbeck.schemes import one
from limbeck.tasks.task import signals
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
STUDENT = {**CNN, "branches": {"count": 3, "at": "6"}}
ONE = {"method": "one"}


@pytest.fixture
def branched(small: Make) -> Make:
    """Four steps an epoch, a student with three branches."""

    def make(**changes: Any) -> dict[str, Any]:
        given = {"student": STUDENT, "teacher": None, "objective": [ONE]}
        return small(**copy.deepcopy({**given, **changes}))

    return make


# ---- what a recipe may say


@each(
    ("changes", "says"),
    [
        ({"student": CNN}, "objective.0 reads branches, but the student has none; set student.br"),
        ({"student__branches": {"at": "6", "count": 1}}, "student.branches.count: input should be"),
        ({"student__branches": {"count": 3}}, "student.branches.at: is required"),
        ({"student__branches": {"at": "6", "cuont": 3}}, "student.branches.cuont: no such key; di"),
        (
            {"objective": [{**ONE, "branches": 2}]},
            "objective.0.branches must be the student's 3, got 2; leave it out",
        ),
        ({"student__exits": ["0", "3"]}, "student.branches: a student has exits or branches; leav"),
        (
            {"chain": {"generations": 1}, "objective": [ONE, {"loss": "kl"}]},
            "student.branches: the stages of a chain have none; leave out branches, or the chain",
        ),
        (
            {"teacher": {**CNN, "branches": {"at": "6"}}},
            "teacher.branches: branches are for the student, which they teach",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    given = {"student": STUDENT, "teacher": None, "objective": [ONE], **changes}
    (message,) = problems(validate, raw(**copy.deepcopy(given)))
    assert says in message


def test_several_students_have_no_branches() -> None:
    made = raw(student=None, teacher=None, students={"a": STUDENT, "b": CNN},
               objective=[{"loss": "truth"}, {"loss": "kl", "source": "peers"}])  # fmt: skip
    (message,) = problems(validate, made)
    assert message.startswith("students.a.branches: branches are for a student alone; leave them")


def test_a_recipe_is_written_as_it_is_read(branched: Make) -> None:
    made = validate(branched())
    assert validate(parse(dump(made), "it")) == made


@each(
    ("at", "says"),
    [
        ("layer", "student.branches.at: no module 'layer'"),
        ("7", "student.branches.at: "),
    ],
)
def test_a_place_that_cannot_be_cut_is_named(at: str, says: str, branched: Make) -> None:
    student = {"model": f"{__name__}:overwriting", "branches": {"count": 2, "at": at}}
    message = refused(assemble, validate(branched(student=student)), Ranks())
    assert message.startswith(says)


def overwriting(classes: int) -> torch.nn.Module:
    """Its ReLU at 7 writes into its input."""
    made = zoo.small_cnn(classes, 4, 3)
    made[7] = torch.nn.ReLU(inplace=True)
    return made


# ---- what it makes


def test_the_student_is_the_first_branch_and_begins_as_it_does_alone(branched: Make) -> None:
    """The other branches begin otherwise."""
    made = assemble(validate(branched()), Ranks()).distiller.student
    alone = {"student": CNN, "objective": [{"loss": "truth"}]}
    plain = assemble(validate(branched(**alone)), Ranks()).distiller.student
    assert isinstance(made, Branched)
    assert equal(weights(made.model), weights(plain))
    firsts = [net.get_submodule("10").weight for net in (made.model, *made.others)]
    assert len(firsts) == 3
    assert not any(torch.equal(a, b) for k, a in enumerate(firsts) for b in firsts[:k])
    again = assemble(validate(branched()), Ranks()).distiller.student
    assert equal(weights(again), weights(made))


def test_the_method_is_the_papers_objective(branched: Make) -> None:
    built = assemble(validate(branched(objective=[{**ONE, "temperature": 2}])), Ranks())
    built.rehearse()
    inputs, data = signals(next(built.loader.epoch(0)), torch.device("cpu"))
    student = built.distiller
    output, found = student.gather(inputs, data)
    parts = student.score(output, found).parts
    expected = one(3, temperature=2)
    given = {f"output.branches.{k}": z for k, z in enumerate(output["branches"])}
    given["output.logits"] = output["logits"]
    found["student"] = given
    assert parts == {name: value.detach() for name, value in expected(found).items()}
    assert list(parts) == ["truth", "truth[0]", "truth[1]", "truth[2]", "kl[0]", "kl[1]", "kl[2]"]


def test_a_teacher_teaches_the_ensemble_and_the_layers_of_the_trunk(branched: Make) -> None:
    terms = [ONE, {"loss": "kl", "name": "soft"}, {"loss": "hint", "at": "3", "project": "conv"}]
    built = assemble(validate(branched(teacher=CNN, objective=terms)), Ranks())
    built.rehearse()
    inputs, data = signals(next(built.loader.epoch(0)), torch.device("cpu"))
    step = built.distiller(inputs, **data)
    assert {"soft", "hint[3]"} <= step.parts.keys()


# ---- a run


def test_stopped_and_resumed_all_branches_go_on_to_the_same_bits(
    branched: Make, tmp_path: Path, steps: Steps
) -> None:
    given = branched()
    given["train"] |= {"ema": 0.9, "save_every": 1, "optimizer": "AdamW"}
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
    begun = weights(assemble(made, Ranks()).distiller)
    trained = saved(tmp_path / "straight")["distiller"]
    moved = [name for name in begun if not torch.equal(begun[name], trained[name])]
    assert {name.split(".")[1] for name in moved} == {"model", "others", "gate"}


def test_one_plain_branch_ships(branched: Make, tmp_path: Path) -> None:
    document = run(validate(branched(train__max_steps=2)), tmp_path / "run")
    file = load_file(tmp_path / "run/student.safetensors")
    plain = zoo.small_cnn(3, 4, 3)
    plain.load_state_dict(file, strict=True)
    assert document["parameters"] == sum(p.numel() for p in plain.parameters())
    assert type(load(tmp_path / "run")) is type(plain)
    assert evaluate_run(tmp_path / "run")["top1"] == document["top1"]
    export_run(tmp_path / "run", tmp_path / "ship", onnx=False)
    assert equal(load_file(tmp_path / "ship/student.safetensors"), file)


def test_a_check_counts_the_plain_student_and_trains_all(branched: Make) -> None:
    document = check_recipe(validate(branched()))
    plain = zoo.small_cnn(3, 4, 3)
    count = sum(p.numel() for p in plain.parameters())
    assert document["models"]["student"]["parameters"] == count
    tail = sum(p.numel() for name, p in plain.named_parameters() if int(name.split(".")[0]) >= 6)
    gate = 8 * 3 + 3 + 2 * 3
    assert document["memory"]["rule"]["weights"] == 4 * (count + 2 * tail + gate)
    assert document["problems"] == []
    assert document["without_gradient"] == []


def test_it_is_compared_with_the_plain_student_on_labels(branched: Make) -> None:
    arms = arms_of(validate(branched()))
    assert list(arms) == ["labels only", "distilled"]
    assert arms["labels only"].student.branches is None
    assert [term.loss for term in arms["labels only"].objective] == ["truth"]
    own = [{"loss": "truth", "student": f"output.branches.{k}", "name": f"t{k}"} for k in range(3)]
    soft = [{"loss": "kl", "student": "output.branches.0", "theirs": "output", "source": "student"}]
    arms = arms_of(validate(branched(objective=[{"loss": "truth"}, *own, *soft])))
    assert len(arms["labels only"].objective) == 1


def test_two_ranks_train_all_branches_alike(branched: Make, tmp_path: Path) -> None:
    """Of a network without batch statistics but those of the gate, whose own rows it sees."""
    student = {"model": "tests.train.jobs:net", "branches": {"count": 2, "at": "head"}}
    for name, accumulate, launcher in (("one", 2, ()), ("two", 1, TORCHRUN)):
        train = {"epochs": 1, "batch_size": 12, "lr": 0.05, "accumulate": accumulate}
        made = validate(branched(student=student, train=train))
        (tmp_path / f"{name}.yaml").write_text(dump(made))
        out = ["--out", str(tmp_path / name)]
        launched(*launcher, "-m", "limbeck", "train", str(tmp_path / f"{name}.yaml"), *out)
    one, two = (saved(tmp_path / name)["distiller"] for name in ("one", "two"))
    still = ("running_mean", "running_var", "num_batches_tracked")
    for name, value in one.items():
        if not name.endswith(still):
            torch.testing.assert_close(two[name], value, rtol=0, atol=1e-5)
