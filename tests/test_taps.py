"""Taps read a forward without changing it; public reports by their ids."""

import copy
import gc
import io
import pickle
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import Custom, Mlp, batch, gradients, hooks, mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from limbeck import Distiller, Match, losses, truth
from limbeck.errors import LimbeckError
from limbeck.taps import Taps

X, Y = batch()


def tapped(student: nn.Module, *paths: str) -> Distiller:
    """A distiller with a hint at each path."""
    matches = [Match(losses.hint, path) for path in paths]
    objective = 1.0 * matches[0]
    for match in matches[1:]:
        objective = objective + match
    return Distiller(student, mlp(seed=1), objective)


def seen(model: nn.Module, name: str, *inputs: Any) -> Any:
    taps = Taps(model, [name])
    with taps:
        model(*(inputs or (X,)))
    return taps.read()[name]


@pytest.fixture
def dynamo() -> Iterator[None]:
    """A compiler without memory, whose hook guards are off as usual."""
    torch._dynamo.reset()
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=True):
        yield
    torch._dynamo.reset()


# ---- compiled models


@pytest.mark.usefixtures("dynamo")
@pytest.mark.parametrize("when", ["tapped", "compiled", "called"])
def test_b067_a_tap_fires_whenever_the_student_is_compiled(when: str) -> None:
    student = mlp()
    fresh = [student.body(student.stem(factor * X).relu()) for factor in (1, 2)]
    taps = Taps(student, ["body"])
    if when == "tapped":
        assert torch.equal(seen(student, "body"), fresh[0])
    student.compile(backend="eager")
    if when == "called":
        student(X)
    for factor in (1, 2):
        with taps:
            student(factor * X)
        torch.testing.assert_close(taps.read()["body"], fresh[factor - 1])


@pytest.mark.usefixtures("dynamo")
def test_b068_an_untapped_twin_that_was_compiled_first_steals_nothing() -> None:
    twin, student = mlp(seed=1), mlp()
    twin.compile(backend="eager")
    twin(X)
    student.compile(backend="eager")
    torch.testing.assert_close(seen(student, "body"), student.body(student.stem(X).relu()))


def test_compiled_students_must_be_prepared_so_that_overwritten_taps_are_seen() -> None:
    student = torch.compile(mlp(), backend="eager")
    with pytest.raises(LimbeckError, match=r"compiled code hides .* call distiller\.prepare"):
        tapped(student, "body")(X)


# ---- copies and files


def test_b070_copies_and_pickles_at_any_time() -> None:
    distiller = tapped(mlp(), "body")
    step = distiller(X)
    copies = [copy.deepcopy(distiller), pickle.loads(pickle.dumps(distiller))]
    step.loss.backward()
    copies.append(copy.deepcopy(distiller))
    with pytest.raises(RuntimeError):
        distiller(torch.ones(2, 5))
    file = io.BytesIO()
    torch.save(distiller, file)
    file.seek(0)
    copies.append(torch.load(file, weights_only=False))
    for twin in copies:
        assert torch.equal(twin(X).loss, step.loss)
        assert twin.student is not distiller.student


def test_b070_what_a_tap_holds_is_not_copied() -> None:
    taps = Taps(mlp(), ["body"])
    for duplicate in (copy.deepcopy, lambda held: pickle.loads(pickle.dumps(held))):
        with taps:
            mlp_output = taps.taps[0].module(torch.ones(1, 8))
        assert mlp_output.requires_grad
        twin = duplicate(taps)
        assert [tap.seen for tap in twin.taps] == [[]]


def test_b070_a_copy_taps_its_own_modules() -> None:
    distiller = tapped(mlp(), "body")
    twin = copy.deepcopy(distiller)
    with torch.no_grad():
        twin.student.body.weight.zero_()
    assert not torch.equal(twin(X).loss, distiller(X).loss)


def test_b071_a_student_saved_in_training_loads_without_limbeck(tmp_path: Path) -> None:
    student = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    distiller = Distiller(student, mlp(), 1.0 * Match(losses.kl) + Match(losses.hint, "1", "stem"))
    distiller(X).loss.backward()
    torch.save(distiller.student, tmp_path / "student.pt")
    torch.save(X, tmp_path / "x.pt")
    script = (
        "import sys, torch; sys.modules['limbeck'] = None; torch.set_num_threads(1); "
        "student = torch.load('student.pt', weights_only=False); "
        "torch.save(student(torch.load('x.pt')), 'y.pt')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt"), student(X))


# ---- hooks come and go


def test_b073_no_hook_stays_whatever_happens() -> None:
    student = Custom(lambda m, x: m.used(x), used=nn.Linear(4, 3), unused=nn.Linear(4, 3))
    taps = Taps(student, ["used", "unused"])
    with taps:
        assert hooks(student) == 2
    with pytest.raises(RuntimeError), taps:
        student(torch.ones(2, 5))
    assert hooks(student) == 0
    with taps:
        student(X)
    assert hooks(student) == 0
    with pytest.raises(LimbeckError, match="'unused' saw nothing: module 'unused' did not run"):
        taps.read()


def test_b073_two_distillers_on_one_student_do_not_meet() -> None:
    student = mlp()
    first, second = tapped(student, "stem", "body"), tapped(student, "body")
    for _ in range(2):
        one, two = first(X), second(X)
    assert hooks(student) == 0
    assert torch.equal(one.parts["hint[body]"], two.parts["hint[body]"])


def test_a_forward_that_fails_after_a_tap_leaves_nothing_for_the_next() -> None:
    student = mlp()
    distiller = tapped(student, "stem")
    student.head = nn.Linear(5, 3)
    with pytest.raises(RuntimeError):
        distiller(X)
    student.head = nn.Linear(8, 3)
    assert distiller(X).loss.isfinite()


def test_b074_a_module_replaced_behind_the_taps_is_noticed() -> None:
    distiller = tapped(mlp(), "body")
    distiller.student.body = nn.Linear(8, 8)
    with pytest.raises(LimbeckError, match="tap 'body' saw nothing"):
        distiller(X)


def test_b074_a_trainer_that_copies_the_distiller_trains_the_copy() -> None:
    twin = copy.deepcopy(tapped(mlp(), "body"))
    twin(X).loss.backward()
    assert twin.student.body.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [nn.ModuleList, nn.ModuleDict])
def test_b076_containers_that_never_run_are_refused(kind: type[nn.Module]) -> None:
    inside = {"0": nn.Linear(4, 3)}
    blocks = kind(inside if kind is nn.ModuleDict else inside.values())
    student = Custom(lambda m, x: x, blocks=blocks)
    with pytest.raises(LimbeckError, match=rf"is a {kind.__name__}, .*; tap one of \['blocks.0'\]"):
        Taps(student, ["blocks"])


def test_b076_a_sequential_runs() -> None:
    student = Custom(lambda m, x: m.blocks(x), blocks=nn.Sequential(nn.Linear(4, 3)))
    assert torch.equal(seen(student, "blocks"), student(X))


def test_b076_a_module_whose_weight_alone_is_used_saw_nothing() -> None:
    student = Custom(lambda m, x: x @ m.head.weight.T, head=nn.Linear(4, 3))
    with pytest.raises(LimbeckError, match="'head' saw nothing"):
        seen(student, "head")


def test_b076_a_function_is_no_module() -> None:
    with pytest.raises(LimbeckError, match=r"must name a module .*, got 'relu'; there are"):
        Taps(mlp(), ["relu"])


# ---- what a tap sees


def test_b077_teacher_features_are_those_of_the_teacher_alone() -> None:
    teacher, student = mlp(seed=1), mlp()
    distiller = Distiller(student, teacher, 1.0 * Match(losses.hint, "body") + truth())
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    for seed in range(3):
        x, y = batch(seed=seed)
        _, signals = distiller.gather(x, {"target": y})
        alone = teacher.body(teacher.stem(x).relu())
        torch.testing.assert_close(signals["teacher"]["body"], alone, rtol=0, atol=1e-6)
        distiller(x, target=y).loss.backward()
        optimizer.step()


def checkpointed(reentrant: bool) -> Custom:
    """A layer inside of what is recomputed."""

    def forward(m: nn.Module, x: Tensor) -> Tensor:
        inner = checkpoint(lambda h: m.body(h).relu(), m.stem(x), use_reentrant=reentrant)
        return m.head(inner)

    torch.manual_seed(0)
    return Custom(forward, stem=nn.Linear(4, 8), body=nn.Linear(8, 8), head=nn.Linear(8, 3))


def test_b079_checkpointing_without_reentry_trains_the_tapped_layer() -> None:
    student = checkpointed(reentrant=False)
    distiller = tapped(student, "body")
    distiller(X).loss.backward()
    twin = Custom(lambda m, x: m.head(m.body(m.stem(x)).relu()), **dict(student.named_children()))
    expected = torch.autograd.grad(tapped(twin, "body")(X).loss, list(student.body.parameters()))
    for parameter, gradient in zip(student.body.parameters(), expected, strict=True):
        assert torch.equal(parameter.grad, gradient)


def test_b079_reentrant_checkpointing_is_refused() -> None:
    distiller = tapped(checkpointed(reentrant=True), "body")
    message = r"hint\[body\]: no gradient reaches .* checkpoint with use_reentrant=False"
    with pytest.raises(LimbeckError, match=message):
        distiller(X)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer9.conv1", r"got 'layer9.conv1'; did you mean 'layer\d.conv1'"),
        ("layr3", "did you mean 'layer3'"),
        ("Layer3.conv1", "did you mean 'layer3.conv1'"),
        ("layer3.", "got 'layer3.'; did you mean 'layer3'"),
        ("", r"got ''; there are \['layer1', 'layer2', 'layer3'\]"),
        ("zebra*", "got 'zebra\\*'; there are"),
        ("layer3.*.conv1", "did you mean 'layer3.conv1'"),
        ("layer3#x", "got 'layer3#x'; did you mean 'layer3'"),
        ("layer3#-1", "did you mean 'layer3'"),
        ("layer3#", "did you mean 'layer3'"),
        ("#0", "got '#0'; there are"),
    ],
)
def test_b080_names_that_do_not_exist(name: str, message: str) -> None:
    layers = {f"layer{i}": nn.Sequential() for i in (1, 2, 3)}
    for layer in layers.values():
        layer.add_module("conv1", nn.Linear(4, 4))
    student = Custom(lambda m, x: m.layer1(x), **layers)
    with pytest.raises(LimbeckError, match=message):
        Taps(student, [name])


def test_b080_a_misspelt_child_is_named_when_its_parent_returns_a_tensor() -> None:
    student = Custom(lambda m, x: m.layer(x), layer=nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    with pytest.raises(LimbeckError, match=r"no field '2'.* tensor \(6, 4\); did you mean 'layer"):
        seen(student, "layer.2")


def test_a_tapped_forward_is_the_forward() -> None:
    student = mlp()
    plain = student(X)
    taps = Taps(student, ["stem", "body", "head"])
    with taps:
        assert torch.equal(student(X), plain)
    assert torch.equal(taps.read()["head"], plain)


@pytest.mark.parametrize("grad", [True, False])
def test_an_in_place_operation_after_a_tap_is_noticed(grad: bool) -> None:
    student = Custom(lambda m, x: m.norm(x).relu_(), norm=nn.BatchNorm1d(4))
    with torch.set_grad_enabled(grad), pytest.raises(LimbeckError, match="'norm' was overwritten"):
        seen(student, "norm")


def test_a_tap_before_an_activation_sees_negative_values() -> None:
    student = Custom(lambda m, x: m.norm(x).relu(), norm=nn.BatchNorm1d(4))
    assert (seen(student, "norm") < 0).any()


TWICE = Custom(lambda m, x: m.head(x) + m.head(2 * x), head=nn.Linear(4, 3))


@pytest.mark.parametrize(("name", "factor"), [("head#0", 1), ("head#1", 2)])
def test_a_call_of_a_module_that_runs_twice(name: str, factor: int) -> None:
    assert torch.equal(seen(TWICE, name), TWICE.head(factor * X))


@pytest.mark.parametrize(
    ("name", "message"),
    [("head", "ran 2 times .* choose a call: 'head#0' to 'head#1'"), ("head#2", "ran 2 times")],
)
def test_an_unclear_call_is_refused(name: str, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        seen(TWICE, name)


PAIR = Custom(lambda m, x: (x, {"hidden": 2 * x, "more": [3 * x]}))
OUTER = Custom(lambda m, x: m.pair(x)[0], pair=PAIR)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("pair.0", 1), ("pair.1.hidden", 2), ("pair.1.more.0", 3), ("pair#0.1.hidden", 2)],
)
def test_fields_of_what_a_module_returns(name: str, factor: int) -> None:
    assert torch.equal(seen(OUTER, name, X[:1]), factor * X[:1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pair.2", "no field '2': it is a tuple of 2"),
        ("pair.1.hiden", r"no field 'hiden': it is a mapping with \['hidden', 'more'\]"),
        ("pair.0.0", r"no field '0': it is a tensor \(6, 4\)"),
    ],
)
def test_a_field_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        seen(OUTER, name)


def test_a_module_named_like_a_field_of_the_output() -> None:
    student = Custom(lambda m, x: {"logits": 2 * m.logits(x)}, logits=nn.Linear(4, 3))
    objective = Match(losses.hint, "logits", "body") + Match(losses.hint, "output.logits", "body")
    teacher = Mlp(width=3)
    _, signals = Distiller(student, teacher, objective).gather(X, {})
    assert torch.equal(2 * signals["student"]["logits"], signals["student"]["output.logits"])


# ---- memory


def test_nothing_is_kept_after_a_step() -> None:
    distiller = tapped(mlp(), "body")
    kept: list[weakref.ref[Tensor]] = []
    handle = distiller.student.body.register_forward_hook(
        lambda _, __, out: kept.append(weakref.ref(out))
    )
    step = distiller(X)
    step.loss.backward()
    handle.remove()
    del step
    gc.collect()
    assert [ref() for ref in kept] == [None]


def test_nothing_is_captured_outside_a_step() -> None:
    distiller = tapped(mlp(), "body")
    distiller(X)
    distiller.student.eval()(X)
    assert all(not tap.seen for plan in distiller.reader.plans.values() for tap in plan.taps.taps)


def test_taps_do_not_change_gradients() -> None:
    student, teacher = mlp(), mlp(seed=1)
    Distiller(student, teacher, 1.0 * truth() + 0.0 * Match(losses.hint, "body"))(
        X, target=Y
    ).loss.backward()
    with_taps = gradients(student)
    student.zero_grad()
    nn.functional.cross_entropy(student(X), Y).backward()
    for name, gradient in gradients(student).items():
        assert torch.equal(with_taps[name], gradient), name
