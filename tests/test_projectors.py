"""Projectors bridge shapes and train with the student; public reports by their ids."""

from collections.abc import Callable

import pytest
import torch
from tests.networks import Convs, Custom, batch, mlp
from torch import Tensor, nn

from limbeck import Distiller, Match, losses, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import Resize, conv, linear
from limbeck.signals import Signals

X, Y = batch()
Move = Callable[[nn.Module], nn.Module]


def projecting(student: nn.Module | None = None) -> Distiller:
    """A student of width 2 beside a teacher of width 5."""
    objective = truth() + 100 * Match(losses.hint, "body", project=linear)
    return Distiller(mlp(2) if student is None else student, mlp(5, seed=1), objective)


@pytest.mark.parametrize(
    ("student", "source"),
    [
        ((2, 4, 8, 8), (2, 6, 8, 8)),
        ((2, 4, 8, 8), (2, 6, 4, 4)),
        ((1, 4, 8, 8), (1, 6, 9, 9)),
        ((1, 4, 1, 1), (1, 4, 8, 8)),
        ((1, 4, 8, 2), (1, 4, 4, 4)),
    ],
)
def test_conv_bridges_maps(student: tuple[int, ...], source: tuple[int, ...]) -> None:
    assert conv(student, source)(torch.zeros(student)).shape == source


@pytest.mark.parametrize("student", [(2, 4), (2, 7, 4)])
def test_linear_bridges_widths(student: tuple[int, ...]) -> None:
    source = (*student[:-1], 6)
    assert linear(student, source)(torch.zeros(student)).shape == source


@pytest.mark.parametrize(
    ("factory", "student", "source", "message"),
    [
        (conv, (2, 4), (2, 4, 8, 8), r"conv projects maps .* got \(2, 4\) and .*; try linear"),
        (linear, (2, 7, 4), (2, 8, 4), r"linear projects the last axis alone, got \(2, 7, 4\)"),
        (linear, (2, 4), (2, 8, 4), "linear projects the last axis alone"),
    ],
)
def test_what_cannot_be_bridged(
    factory: Callable[..., nn.Module],
    student: tuple[int, ...],
    source: tuple[int, ...],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        factory(student, source)


def test_b107_equal_constant_maps_of_other_sizes_match_through_a_resize() -> None:
    match = Match(losses.hint, "a", project=Resize((9, 9)))
    signals = Signals(
        student={"a": torch.full((1, 6, 8, 8), 3.0)}, teacher={"a": torch.full((1, 6, 9, 9), 3.0)}
    )
    assert float(match(signals)["hint[a]"]) == pytest.approx(0, abs=1e-12)


def test_a_distiller_sizes_projectors_in_a_dry_run() -> None:
    student, teacher = Convs(4), Convs(6)
    objective = 1.0 * Match(losses.hint, "act", "norm", project=conv)
    distiller = Distiller(student, teacher, objective)
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(LimbeckError, match=r"has no size yet; call distiller.prepare\(inputs\)"):
        distiller(images)
    distiller.prepare(images)
    distiller(images).loss.backward()
    assert "objective.terms.0.projector.weight" in distiller.state_dict()


def test_preparing_twice_keeps_the_projector() -> None:
    distiller = projecting()
    distiller.prepare(X, target=Y)
    before = {name: value.clone() for name, value in distiller.state_dict().items()}
    distiller.prepare(X[:2], target=Y[:2])
    assert all(torch.equal(value, before[name]) for name, value in distiller.state_dict().items())


def test_b115_the_distiller_has_one_list_of_what_trains() -> None:
    distiller = projecting()
    distiller.prepare(X, target=Y)
    names = [name for name, _ in distiller.named_parameters()]
    student = [f"student.{name}" for name, _ in mlp(2).named_parameters()]
    projector = [f"objective.terms.1.projector.{name}" for name in ("weight", "bias")]
    assert sorted(names) == sorted(student + projector)
    before = [parameter.clone() for parameter in distiller.parameters()]
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    distiller(X, target=Y).loss.backward()
    optimizer.step()
    moved = [not torch.equal(a, b) for a, b in zip(before, distiller.parameters(), strict=True)]
    assert moved == [True] * len(names)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_b112_features_of_another_precision(dtype: torch.dtype) -> None:
    student = Custom(lambda m, x: m.body(x), body=nn.Linear(4, 2)).to(dtype)
    distiller = Distiller(student, mlp(5), 1.0 * Match(losses.hint, "body", project=linear))
    distiller.prepare(X.to(dtype))
    projector = distiller.objective.terms[0].projector
    assert projector.weight.dtype == torch.promote_types(dtype, torch.float32)
    step = distiller(X.to(dtype))
    step.loss.backward()
    assert step.loss.dtype == projector.weight.dtype
    for parameter in distiller.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_b112_under_autocast() -> None:
    distiller = projecting()
    distiller.prepare(X, target=Y)
    with torch.autocast("cpu", torch.bfloat16):
        step = distiller(X, target=Y)
    step.loss.backward()
    assert step.output.dtype == torch.bfloat16
    assert step.loss.dtype == torch.float32
    assert all(parameter.grad.dtype == torch.float32 for parameter in distiller.parameters())


@pytest.mark.parametrize("move", [lambda d: d.bfloat16(), lambda d: d.double()])
def test_a_projector_follows_the_student(move: Move) -> None:
    distiller = projecting()
    distiller.prepare(X, target=Y)
    move(distiller)
    dtype = distiller.student.head.weight.dtype
    assert {parameter.dtype for parameter in distiller.parameters()} == {dtype}
    distiller(X.to(dtype), target=Y).loss.backward()


def test_a_projector_of_ones_own() -> None:
    class Doubled(nn.Module):
        def forward(self, s: Tensor) -> Tensor:
            return torch.cat([s, s], 1)

    objective = 1.0 * Match(losses.hint, "body", project=Doubled())
    distiller = Distiller(mlp(4), mlp(8, seed=1), objective)
    distiller.prepare(X)
    assert distiller(X).loss > 0


def test_a_projector_with_batch_statistics_is_prepared_without_a_trace() -> None:
    def normed(student: tuple[int, ...], source: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(linear(student, source), nn.BatchNorm1d(source[-1]))

    objective = 1.0 * Match(losses.hint, "body", project=normed)
    distiller = Distiller(mlp(2), mlp(5, seed=1), objective)
    distiller.prepare(X)
    norm = distiller.objective.terms[0].projector[1]
    assert norm.training
    assert int(norm.num_batches_tracked) == 0
    distiller(X)
    assert int(norm.num_batches_tracked) == 1
