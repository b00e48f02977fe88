"""A compiled step is the step."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from tests.networks import Custom, batch, gradients, mlp
from torch import nn

from limbeck import Balance, Distiller, Match, losses, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import linear
from limbeck.schedules import Linear

X, Y = batch()
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")


@pytest.fixture(autouse=True)
def dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def prepared(student: nn.Module) -> Distiller:
    hint = Balance(0.5) * Match(losses.hint, "body", project=linear)
    soft = Match(losses.kl, temperature=Linear(4, 1))
    distiller = Distiller(student, mlp(5, seed=1), 0.5 * truth() + Linear(0, 1) * soft + hint)
    torch.manual_seed(0)
    distiller.prepare(X, target=Y)
    distiller.advance(0.5)
    return distiller


def in_place(backend: str) -> tuple[Distiller, Callable[..., object]]:
    distiller = prepared(mlp(2))
    distiller.student.compile(backend=backend)
    return distiller, distiller


def wrapped(backend: str) -> tuple[Distiller, Callable[..., object]]:
    distiller = prepared(torch.compile(mlp(2), backend=backend))
    return distiller, distiller


def whole(backend: str) -> tuple[Distiller, Callable[..., object]]:
    distiller = prepared(mlp(2))
    return distiller, torch.compile(distiller, backend=backend)


def compare(form: Callable[..., tuple[Distiller, Callable[..., object]]], backend: str) -> None:
    eager = prepared(mlp(2))
    distiller, run = form(backend)
    for progress in (0.0, 0.5, 1.0):
        for each in (eager, distiller):
            each.zero_grad()
            each.advance(progress)
        expected, step = eager(X, target=Y), run(X, target=Y)
        torch.testing.assert_close(step.parts, expected.parts)
        torch.testing.assert_close(step.loss, expected.loss)
        expected.loss.backward()
        step.loss.backward()
        torch.testing.assert_close(gradients(distiller), gradients(eager))
    assert torch.equal(copy.deepcopy(distiller.student)(X), mlp(2)(X))


@pytest.mark.parametrize("form", [in_place, wrapped, whole])
def test_three_forms_of_compiling_equal_eager(
    form: Callable[..., tuple[Distiller, Callable[..., object]]],
) -> None:
    compare(form, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("form", [in_place, wrapped, whole])
def test_three_forms_of_compiling_to_machine_code_equal_eager(
    form: Callable[..., tuple[Distiller, Callable[..., object]]],
) -> None:
    compare(form, "inductor")


def overwritten() -> Distiller:
    student = Custom(lambda m, x: m.head(m.norm(x).relu_()), norm=nn.BatchNorm1d(4), head=mlp())
    teacher = Custom(lambda m, x: m.norm(x), norm=nn.Linear(4, 4))
    return Distiller(student, teacher, truth() + Match(losses.hint, "norm"))


def by_function(distiller: Distiller, fullgraph: bool) -> Callable[..., object]:
    return torch.compile(distiller, backend="eager", fullgraph=fullgraph)


def by_method(distiller: Distiller, fullgraph: bool) -> Callable[..., object]:
    distiller.compile(backend="eager", fullgraph=fullgraph)
    return distiller


@pytest.mark.parametrize("compiled", [by_function, by_method])
@pytest.mark.parametrize("fullgraph", [False, True])
def test_a_compiled_distiller_must_be_prepared(
    compiled: Callable[[Distiller, bool], Callable[..., object]], fullgraph: bool
) -> None:
    """With fullgraph torch quotes what the error says in one of its own."""
    error = torch._dynamo.exc.Unsupported if fullgraph else LimbeckError
    run = compiled(overwritten(), fullgraph)
    for _ in range(2):
        with pytest.raises(
            error, match=r"hides .* from taps; call distiller.prepare\(inputs\) once"
        ):
            run(X, target=Y)
    with torch.no_grad():
        compiled(overwritten(), False)(X, target=Y)


def test_preparing_sees_through_compiled_code_what_is_overwritten() -> None:
    plain = overwritten()
    student, teacher = torch.compile(plain.student, backend="eager"), plain.sources["teacher"]
    distiller = Distiller(student, teacher, plain.objective)
    with torch.no_grad():
        distiller(X, target=Y)
    with pytest.raises(LimbeckError, match="tap 'norm' was overwritten"):
        distiller.prepare(X, target=Y)


def test_a_compiled_student_evaluates_after_training() -> None:
    distiller, _ = in_place("aot_eager")
    distiller(X, target=Y).loss.backward()
    with torch.no_grad():
        torch.testing.assert_close(distiller.student(X), mlp(2)(X))
    assert distiller(X, target=Y).parts["hint[body]"] > 0
