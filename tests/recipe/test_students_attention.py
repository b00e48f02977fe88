"""Recipes of peers that weigh one another by attention, and of their leader."""

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

from limbeck import Mutual, zoo
from limbeck.recipe import assemble, check_recipe, evaluate_run, export_run, run, validate
from limbeck.recipe.arms import arms_of
from limbeck.recipe.text import dump, parse
from limbeck.schemes import Attention, okddip
from limbeck.tasks.task import signals
from limbeck.train.ranks import Ranks

each = pytest.mark.parametrize
Make = Callable[..., dict[str, Any]]
MLP = {"model": "limbeck.zoo:mlp", "options": {"hidden": 8, "channels": 3, "size": 8}}
NARROW = {"model": "limbeck.zoo:mlp", "options": {"hidden": 4, "channels": 3, "size": 8}}
CNN = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4, "channels": 3}}
GROUP = {"leader": MLP, "a": MLP, "b": MLP}
LOSSES = [{"loss": "truth"}, {"loss": "kl", "source": "peers", "temperature": 3}]
ATTENTION = {"kind": "attention", "features": "1"}


@pytest.fixture
def group(small: Make) -> Make:
    """Four steps an epoch, a leader and two peers."""

    def make(**changes: Any) -> dict[str, Any]:
        given = {
            "student": None,
            "teacher": None,
            "students": GROUP,
            "objective": LOSSES,
            "teach": ATTENTION,
        }
        return small(**copy.deepcopy({**given, **changes}))

    return make


def whole(**changes: Any) -> dict[str, Any]:
    given = {"student": None, "teacher": None, "students": GROUP, "objective": LOSSES}
    return raw(**copy.deepcopy({**given, "teach": ATTENTION, **changes}))


# ---- what a recipe may say


@each(
    ("changes", "says"),
    [
        ({"teach": "attention"}, "teach: attention needs the features that it looks at: {kind: at"),
        ({"teach": {"kind": "attention"}}, "teach.features: is required"),
        ({"teach": {**ATTENTION, "inne": 2}}, "teach.inne: no such key; did you mean 'inner'?"),
        ({"teach": {**ATTENTION, "inner": 0}}, "teach.inner: input should be greater than 0, got"),
        (
            {"students": {"a": MLP, "b": MLP}},
            "teach: attention needs a leader, which is the first student, and two peers or more, "
            "got ['a', 'b']",
        ),
        (
            {"teach": {**ATTENTION, "features": {"a": "1", "c": "1"}}},
            "teach.features: each of the peers ['a', 'b'] must have one, got ['a', 'c']",
        ),
        ({"objective": LOSSES[:1]}, "teach: attention needs a loss with source: peers, of which"),
        (
            {"objective__1__at": "1"},
            "objective.1: attention mixes outputs as they are; leave out at and project",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_its_key(changes: dict[str, Any], says: str) -> None:
    (message,) = problems(validate, whole(**changes))
    assert says in message


def test_a_student_alone_has_no_attention() -> None:
    (message,) = problems(validate, raw(teach=ATTENTION))
    assert message.startswith("teach: attention is for several students; name students instead")


def test_a_recipe_is_written_as_it_is_read() -> None:
    made = validate(whole(teach={**ATTENTION, "inner": 3}))
    assert validate(parse(dump(made), "it")) == made


@each(
    ("changes", "says"),
    [
        (
            {"students": {**GROUP, "b": NARROW}},
            "teach.features must be as wide in all peers, got {",
        ),
        (
            {"teach": {**ATTENTION, "features": "9"}},
            "teach.features: of 'a': tap must name a modul",
        ),
    ],
)
def test_features_that_do_not_fit_are_named(
    changes: dict[str, Any], says: str, group: Make
) -> None:
    assert refused(assemble, validate(group(**changes)), Ranks()).startswith(says)


# ---- what it makes


def test_it_is_the_papers_okddip(group: Make) -> None:
    """Its loss and its parts are those of the scheme on the same networks."""
    built = assemble(validate(group()), Ranks())
    mutual = built.distiller
    assert isinstance(mutual, Mutual)
    assert isinstance(mutual.teaching, Attention)
    torch.manual_seed(0)
    paper = okddip(copy.deepcopy(mutual).readers, leader="leader", features="1", width=8)
    paper.teaching.load_state_dict(mutual.teaching.state_dict())
    inputs, data = signals(next(built.loader.epoch(0)), torch.device("cpu"))
    steps = [each(inputs, **data) for each in (mutual, paper)]
    for step in steps:
        step.loss.backward()
    assert steps[0].parts == steps[1].parts
    found, expected = (
        {name: p.grad for name, p in each.named_parameters() if p.grad is not None}
        for each in (mutual, paper)
    )
    assert equal(found, expected)
    assert bool(mutual.teaching.query.weight.grad.any())


def test_peers_of_unlike_kind_say_where_their_features_are(group: Make) -> None:
    """The leader, whose features nobody reads, needs none."""
    students = {"leader": NARROW, "a": MLP, "b": CNN}
    where = {**ATTENTION, "features": {"a": "1", "b": "9"}, "inner": 2}
    built = assemble(validate(group(students=students, teach=where)), Ranks())
    built.rehearse()
    assert built.distiller.teaching.query.weight.shape == (2, 8)


def test_the_attention_begins_alike_in_each_build(group: Make) -> None:
    one, two = (assemble(validate(group()), Ranks()).distiller for _ in range(2))
    assert equal(one.state_dict(), two.state_dict())
    assert "teaching.query.weight" in one.state_dict()


def test_each_peer_may_see_its_own_view(group: Make) -> None:
    data = {**group()["data"], "augment": {"crop": 1}, "own_views": True}
    assemble(validate(group(data=data)), Ranks()).rehearse()


# ---- a run


def test_stopped_and_resumed_the_attention_goes_on_to_the_same_bits(
    group: Make, tmp_path: Path, steps: Steps
) -> None:
    given = group()
    given["train"] |= {"ema": 0.9, "save_every": 1, "optimizer": "AdamW", "clip": 1.0}
    made = validate(given)
    begun = weights(assemble(made, Ranks()).distiller.teaching)
    run(made, tmp_path / "straight")
    steps.taken, steps.stop = 0, 5
    with pytest.raises(KeyboardInterrupt):
        run(made, tmp_path / "broken")
    steps.stop = -1
    torch.manual_seed(5)
    run(made, tmp_path / "broken", resume=True)
    assert equal(saved(tmp_path / "broken"), saved(tmp_path / "straight"))
    assert timeless(tmp_path / "broken") == timeless(tmp_path / "straight")
    trained = saved(tmp_path / "straight")["distiller"]
    for name, value in begun.items():
        assert not torch.equal(trained[f"teaching.{name}"], value)


def test_the_leader_ships_and_its_peers_on_request(group: Make, tmp_path: Path) -> None:
    document = run(validate(group(train__max_steps=2)), tmp_path / "run")
    assert document["student"] == "leader"
    assert evaluate_run(tmp_path / "run")["top1"] == document["top1"]
    for name in ("leader", "b"):
        export_run(tmp_path / "run", tmp_path / name, onnx=False, student=name)
        file = load_file(tmp_path / name / "student.safetensors")
        zoo.mlp(3, 8, 3, 8).load_state_dict(file, strict=True)


def test_a_check_shows_each_target_and_finds_nothing_wrong(group: Make) -> None:
    document = check_recipe(validate(group()))
    rows = {row["name"]: row for row in document["terms"]}
    assert list(rows) == [f"{n}/{part}" for n in ("leader", "a", "b") for part in ("truth", "kl")]
    assert rows["leader/kl"]["source"] == {"name": "peers", "signal": "output", "shape": [6, 3]}
    assert document["problems"] == []


def test_it_is_compared_with_labels_alone_and_with_other_teachings(group: Make) -> None:
    arms = arms_of(validate(group(compare={"arms": {"in turn": {"teach": "each"}}})))
    assert list(arms) == ["labels only", "mutual", "in turn"]
    assert [made.teach for made in arms.values()][::2] == ["each", "each"]
    begun = [assemble(made, Ranks()).distiller.students for made in arms.values()]
    assert all(equal(weights(begun[0][n]), weights(others[n])) for others in begun for n in GROUP)


def test_two_ranks_equal_one_process(group: Make, tmp_path: Path) -> None:
    """In float32, whose rounding is all that differs; in float64 see the schemes' tests."""
    for name, accumulate, launcher in (("one", 1, ()), ("two", 2, TORCHRUN)):
        train = {"epochs": 1, "batch_size": 12, "lr": 0.05, "accumulate": accumulate}
        (tmp_path / f"{name}.yaml").write_text(dump(validate(group(train=train))))
        out = ["--out", str(tmp_path / name)]
        launched(*launcher, "-m", "limbeck", "train", str(tmp_path / f"{name}.yaml"), *out)
    one, two = (saved(tmp_path / name)["distiller"] for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)
