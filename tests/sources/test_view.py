"""Two halves of a batch that belong together."""

import pytest
import torch
from tests.networks import batch, gradients, mlp
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck import Distiller, Match, Objective, View, losses, truth
from limbeck.errors import LimbeckError

HALF, T = 5, 3.0


def kl(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    """T^2 KL(t || s), the mean over rows."""
    p, log_q = (t.detach() / temperature).softmax(1), (s / temperature).log_softmax(1)
    return temperature**2 * (p * (p.log() - log_q)).sum(1).mean()


def apart(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).square().sum(1).mean()


def student() -> nn.Module:
    return mlp().double()


def halves() -> tuple[Tensor, Tensor, Tensor]:
    """Two views of five samples, and their labels."""
    x, y = batch(HALF)
    return x.double(), x.double() + 0.3 * torch.randn(HALF, 4, dtype=torch.float64), y


def found(objective: Objective, x: Tensor, **given: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    made = Distiller(student(), {"view": View()}, objective)
    loss = made(x, **given).loss
    loss.backward()
    return loss.detach(), gradients(made.student)


def check(found: tuple[Tensor, dict[str, Tensor]], loss: Tensor, model: nn.Module) -> None:
    loss.backward()
    torch.testing.assert_close(found[0], loss.detach(), rtol=0, atol=1e-12)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-12)
        assert bool(gradient.any())


def test_ddgsd_is_the_two_view_loss_written_by_hand() -> None:
    """Labels, the other view's answer and its features, for both views."""
    a, b, y = halves()
    objective = (
        truth()
        + Match(losses.kl, source="view", temperature=T)
        + 0.1 * Match(apart, "body", source="view")
    )
    result = found(objective, torch.cat([a, b]), target=torch.cat([y, y]))

    model = student()
    hidden = [model.body(model.stem(x).relu()) for x in (a, b)]
    first, second = (model.head(h.relu()) for h in hidden)
    labels = (F.cross_entropy(first, y) + F.cross_entropy(second, y)) / 2
    soft = (kl(first, second, T) + kl(second, first, T)) / 2
    features = (apart(hidden[0], hidden[1].detach()) + apart(hidden[1], hidden[0].detach())) / 2
    check(result, labels + soft + 0.1 * features, model)


def test_cs_kd_teaches_the_first_half_alone() -> None:
    """The second half is another sample of the same class, run without a gradient."""
    a, b, y = halves()
    first = torch.arange(2 * HALF) < HALF
    objective = truth() + Match(
        losses.kl, source="view", temperature=4, given={"mask": "data:first"}
    )
    target = torch.cat([y, torch.full_like(y, -100)])
    result = found(objective, torch.cat([a, b]), target=target, first=first)

    model = student()
    z = model(a)
    with torch.no_grad():
        partner = model(b)
    check(result, F.cross_entropy(z, y) + kl(z, partner, 4.0), model)


def test_the_student_runs_once() -> None:
    model, calls = student(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    made = Distiller(model, {"view": View()}, 1.0 * Match(losses.kl, source="view"))
    made(torch.cat(halves()[:2]))
    assert calls == [1]


def test_an_odd_batch_has_no_halves() -> None:
    made = Distiller(student(), {"view": View()}, 1.0 * Match(losses.kl, source="view"))
    with pytest.raises(LimbeckError, match="two halves that belong together, got 5 rows"):
        made(halves()[0])
