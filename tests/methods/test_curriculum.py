"""The learned temperature: its value and its reversed gradient."""

import math
from functools import partial

import pytest
import torch
from tests.golden import harness
from tests.networks import batch, gradients, mlp
from torch import Tensor

from limbeck import Distiller, losses, methods
from limbeck.errors import LimbeckError
from limbeck.methods.curriculum import CTKD, reversed_gradient
from limbeck.signals import Signals

X, Y = batch()
SIGMOID = 1 / (1 + math.exp(-1))  # of theta at its start
GOLDEN = [
    entry
    for entry in harness.load(harness.Path(harness.__file__).parent / "logits-relations.json")
    if entry["method"] == "ctkd_global"
]


def distiller(progress: float = 1.0) -> Distiller:
    made = Distiller(mlp(3), mlp(5, seed=1), methods.ctkd())
    made.advance(progress)
    return made


def theta(made: Distiller) -> Tensor:
    (value,) = [p for name, p in made.named_parameters() if name.endswith("theta")]
    return value


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: entry["fixture_id"])
def test_the_authors_gradient_of_theta_is_the_plain_one_times_the_factor(entry: dict) -> None:
    inputs = {name: torch.from_numpy(x) for name, x in harness.build(entry["inputs"]).items()}
    params = entry["params"]
    match = CTKD(
        start=params["t_start"], spread=params["t_range"], reversal=params["lambda"]
    ).double()
    with torch.no_grad():
        match.theta.copy_(inputs["theta"])
    s, t = inputs["student"].requires_grad_(), inputs["teacher"]
    signals = Signals(student={"output": s}, teacher={"output": t})
    value = match(signals)["ctkd"]
    assert value.item() == pytest.approx(entry["house_value"], rel=1e-9, abs=1e-12)
    by_theta, by_student = torch.autograd.grad(value, (match.theta, s))
    plain = entry["house_grad"]["theta"]["full"][0]
    assert by_theta.item() == pytest.approx(params["lambda"] * plain, rel=1e-7, abs=1e-10)
    l2 = entry["house_grad"]["student"]["l2"]
    assert by_student.norm().item() == pytest.approx(l2, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("factor", [0.0, -1.0, 0.3, torch.tensor(-0.5)])
def test_the_value_stays_and_the_gradient_is_scaled(factor: float | Tensor) -> None:
    x = torch.tensor([0.1, -7.3, 1e6], requires_grad=True)
    y = reversed_gradient(x, factor)
    assert torch.equal(y, x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, torch.full_like(x, float(factor)))


def test_the_parts_sum_to_the_loss() -> None:
    step = distiller()(X, target=Y)
    assert list(step.parts) == ["truth", "ctkd"]
    assert step.loss.item() == pytest.approx(sum(x.item() for x in step.parts.values()), rel=1e-6)


def test_the_gradient_reaches_the_student_and_theta_and_nothing_of_the_source() -> None:
    teacher = mlp(5, seed=1)
    made = Distiller(mlp(3), teacher, methods.ctkd())
    made.advance(1.0)
    made(X, target=Y).loss.backward()
    assert len(gradients(made.student)) == len(list(made.student.parameters()))
    assert theta(made).grad is not None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    names = [name for name, _ in made.named_parameters() if not name.startswith("student.")]
    assert [name.rsplit(".", 1)[1] for name in names] == ["theta"]


def test_theta_climbs_while_the_student_descends() -> None:
    made = distiller()
    optimizer = torch.optim.SGD([theta(made)], 100.0)
    before = made(X, target=Y)
    before.loss.backward()
    optimizer.step()
    assert made(X, target=Y).parts["ctkd"] > before.parts["ctkd"]


def test_at_the_start_theta_is_still() -> None:
    made = distiller(0.0)
    made(X, target=Y).loss.backward()
    grad = theta(made).grad
    assert grad is not None
    assert grad.count_nonzero() == 0


def test_any_loss_with_a_temperature_may_learn_it() -> None:
    made = Distiller(mlp(3), mlp(5, seed=1), CTKD(loss=losses.lskd, reversal=-1.0))
    made(X).loss.backward()
    grad = theta(made).grad
    assert grad is not None
    assert grad.isfinite().all()
    assert grad != 0
    given = {"target": "data:target"}
    decoupled = CTKD(loss=partial(losses.dkd, beta=2.0), given=given, reversal=-1.0)
    assert Distiller(mlp(3), mlp(5, seed=1), decoupled)(X, target=Y).parts["ctkd"] > 0


def test_a_loss_without_a_temperature_is_refused() -> None:
    with pytest.raises(LimbeckError, match=r"hint takes .* got 'temperature'"):
        CTKD(loss=losses.hint)


@pytest.mark.parametrize(
    ("settings", "temperature"),
    [({}, 1 + 20 * SIGMOID), ({"start": 2, "spread": 3}, 2 + 3 * SIGMOID)],
)
def test_the_method_is_kd_at_its_temperature(
    settings: dict[str, float], temperature: float
) -> None:
    made, fixed = (
        Distiller(mlp(3), mlp(5, seed=1), objective)(X, target=Y).parts
        for objective in (methods.ctkd(reversal=-1.0, **settings), methods.kd(temperature))
    )
    assert made["truth"] == fixed["truth"]
    assert made["ctkd"].item() == pytest.approx(fixed["kl"].item(), rel=1e-6)


@pytest.mark.parametrize("settings", [{"start": 0}, {"start": -1.0}, {"start": 1, "spread": -2}])
def test_a_temperature_that_could_come_to_0_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be positive, got"):
        CTKD(**settings)
