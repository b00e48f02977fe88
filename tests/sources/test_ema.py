"""The average of the student; public reports by their ids."""

from typing import Any

import pytest
import torch
from tests.networks import Custom, mlp
from tests.sources.made import data, noisy, same, weights
from torch import Tensor, nn

from limbeck import Distiller, Ema, Match, losses, truth
from limbeck.averages import Average
from limbeck.errors import LimbeckError

each = pytest.mark.parametrize
DECAY = 0.9


class Buffered(nn.Module):
    """Parameters, batch statistics, spectral norm, a counter and a mask."""

    counter: Tensor
    mask: Tensor
    hidden: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))
        self.register_buffer("counter", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mask", torch.zeros(3, dtype=torch.bool))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)


def moved(model: nn.Module, step: int) -> None:
    """New values everywhere, as a step of training leaves them."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(parameter)
    for buffer in model.buffers():
        values = 5 * torch.randn(buffer.shape, generator=generator)
        buffer.copy_(values > 0 if buffer.dtype == torch.bool else values)


def everything(model: nn.Module) -> dict[str, Tensor]:
    found = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: value.detach().clone() for name, value in found.items()}


@each("buffers", ["copy", "average", "ignore"])
def test_b097_three_steps_are_the_closed_form(buffers: Any) -> None:
    """theta'_3 = d^3 theta_0 + (1 - d) sum_k d^(3 - k) theta_k."""
    torch.manual_seed(0)
    student = Buffered().double()
    ema = Ema(student, DECAY, buffers=buffers)
    seen = [everything(student)]
    for step in (1, 2, 3):
        moved(student, step)
        ema.advance(0.0)
        seen.append(everything(student))
    parameters = dict(student.named_parameters())
    found = everything(ema.model)
    assert {"norm.running_var", "spectral.parametrizations.weight.0._u", "hidden"} <= set(found)
    for name, value in found.items():
        values = [each[name].double() for each in seen]
        closed = DECAY**3 * values[0] + (1 - DECAY) * sum(
            DECAY ** (3 - k) * values[k] for k in (1, 2, 3)
        )
        counted = not value.is_floating_point()
        how = "average" if name in parameters else "copy" if counted else buffers
        expected = {"average": closed, "copy": values[3], "ignore": values[0]}[how]
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-14)
        assert value.dtype == seen[0][name].dtype
    assert (found["counter"].dtype, found["mask"].dtype) == (torch.int64, torch.bool)
    assert bool(found["counter"] != 0)


@each(("buffers", "mean"), [("copy", 1.0), ("average", 0.1), ("ignore", 0.0)])
def test_b097_batch_statistics(buffers: Any, mean: float) -> None:
    norm = nn.BatchNorm1d(1)
    ema = Ema(norm, DECAY, buffers=buffers)
    norm.running_mean.fill_(1.0)
    norm.num_batches_tracked.fill_(7)
    ema.advance(0.0)
    assert float(ema.model.running_mean) == pytest.approx(mean)
    assert ema.model.num_batches_tracked.dtype == torch.int64
    assert int(ema.model.num_batches_tracked) == 7


def test_old_spectral_norm_answers_by_the_averaged_weight() -> None:
    student = nn.utils.spectral_norm(nn.Linear(4, 3)).double()
    ema = Ema(student, DECAY)
    student.weight_orig.data += 1
    ema.advance(0.0)
    x = torch.ones(2, 4, dtype=torch.float64)
    sigma = ema.model.weight_u @ ema.model.weight_orig @ ema.model.weight_v
    expected = nn.functional.linear(x, ema.model.weight_orig / sigma, student.bias)
    torch.testing.assert_close(ema.model(x), expected)
    torch.testing.assert_close(
        ema.model.weight_orig, student.weight_orig - DECAY, rtol=0, atol=1e-14
    )


def test_shared_weights_stay_shared_and_move_once() -> None:
    student = Custom(lambda m, x: m.b(m.a(x)), a=nn.Linear(2, 2), b=nn.Linear(2, 2))
    student.b.weight = student.a.weight
    nn.init.zeros_(student.a.weight)
    average = Average(student, DECAY)
    nn.init.ones_(student.a.weight)
    average.update(student)
    assert average.model.a.weight is average.model.b.weight
    torch.testing.assert_close(average.model.a.weight, torch.full((2, 2), 0.1))


def test_the_teacher_of_a_step_is_the_average_of_the_weights_before_it() -> None:
    student = noisy().double()
    made = Distiller(
        student, {"ema": Ema(student, DECAY)}, truth() + Match(losses.kl, source="ema")
    )
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    expected = weights(student)
    for step in range(4):
        made.advance(step / 3)
        now = weights(student)
        for name, _ in student.named_parameters():
            expected[name] = DECAY * expected[name] + (1 - DECAY) * now[name]
        found = weights(made.sources["ema"].modules()[0])
        for name, value in found.items():
            target = expected[name] if name in dict(student.named_parameters()) else now[name]
            torch.testing.assert_close(value, target, rtol=0, atol=1e-14)
        x, given = data(step)
        made(x.double(), **given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not same(found, now)


def test_it_starts_as_the_student_and_the_first_advance_changes_nothing() -> None:
    student = noisy()
    ema = Ema(student)
    ema.advance(0.0)
    assert same(weights(ema.model), weights(student))


@each(("decay", "buffers"), [(1.0, "copy"), (-0.1, "copy")])
def test_decays_that_would_not_average(decay: float, buffers: Any) -> None:
    with pytest.raises(LimbeckError, match=r"decay must be in \[0, 1\), got"):
        Ema(mlp(), decay)


def test_what_happens_to_buffers_has_three_names() -> None:
    unknown: Any = "averaged"
    with pytest.raises(LimbeckError, match=r"buffers must be one of .* did you mean 'average'"):
        Ema(mlp(), buffers=unknown)


def test_an_average_of_another_model_would_never_move() -> None:
    with pytest.raises(LimbeckError, match="source 'ema' is the average of another model"):
        Distiller(mlp(), {"ema": Ema(mlp())}, 1.0 * Match(losses.kl, source="ema"))


def test_the_average_follows_a_student_in_another_precision() -> None:
    student = mlp()
    made = Distiller(student, {"ema": Ema(student, 0.5)}, 1.0 * Match(losses.kl, source="ema"))
    made.to(torch.float64)
    before = student.stem.bias.detach().clone()
    student.stem.bias.data += 1
    made.advance(0.0)
    average = made.sources["ema"].modules()[0].stem.bias
    assert average.dtype == torch.float32
    torch.testing.assert_close(average.double(), before + 0.5, rtol=0, atol=1e-6)
