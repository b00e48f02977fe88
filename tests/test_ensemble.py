"""Several teachers with one voice; public reports by their ids."""

from typing import Any

import pytest
import torch
from tests.networks import Custom, batch, mlp
from torch import Tensor, nn

from limbeck import Distiller, Ensemble, Frozen, Match, losses, truth
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

X, Y = batch()
BOTH = truth() + Match(losses.kl, temperature=4)

FIRST, SECOND, THEIRS = ([4.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.5, 0.0])


def constant(*logits: float) -> nn.Module:
    """A teacher that always says the same."""
    return Custom(lambda m, x: torch.tensor([logits], dtype=torch.float64).expand(len(x), -1))


def taught(source: Source | nn.Module, temperature: float = 1.0) -> tuple[float, Tensor]:
    """The loss of a student that answers `THEIRS`, and its gradient."""
    student = Custom(lambda m, x: m.logits.weight, logits=nn.Linear(3, 1, bias=False)).double()
    with torch.no_grad():
        student.logits.weight.copy_(torch.tensor([THEIRS]))
    match = 1.0 * Match(losses.kl, temperature=temperature)
    loss = Distiller(student, source, match)(torch.zeros(1, 1)).loss
    loss.backward()
    return loss.item(), student.logits.weight.grad


@pytest.mark.parametrize(
    ("mean", "loss"), [("probabilities", 0.0223785899), ("logits", 0.110038683)]
)
def test_b026_the_two_means_of_an_ensemble(mean: Any, loss: float) -> None:
    ensemble = Ensemble([constant(*FIRST), constant(*SECOND)], mean=mean)
    assert taught(ensemble)[0] == pytest.approx(loss, rel=1e-8)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("weights", [(0.5, 0.5), (0.3, 0.7)])
def test_b026_the_mean_of_probabilities_teaches_like_the_mean_of_losses(
    temperature: float, weights: tuple[float, float]
) -> None:
    teachers = [constant(*FIRST), constant(*SECOND)]
    ensemble = Ensemble(teachers, mean="probabilities", temperature=temperature, weights=weights)
    loss, gradient = taught(ensemble, temperature)
    alone = [taught(teacher, temperature) for teacher in teachers]
    mean = sum(w * g for w, (_, g) in zip(weights, alone, strict=True))
    torch.testing.assert_close(gradient, mean, rtol=1e-9, atol=1e-12)
    mean_of_losses = sum(w * value for w, (value, _) in zip(weights, alone, strict=True))
    assert loss < mean_of_losses
    if temperature == 1.0 and weights == (0.5, 0.5):
        assert mean_of_losses == pytest.approx(0.367195235, rel=1e-8)


@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_an_ensemble_of_one_is_its_teacher(mean: Any) -> None:
    alone = Distiller(mlp(), mlp(seed=1), BOTH)(X, target=Y)
    one = Distiller(mlp(), Ensemble([mlp(seed=1)], mean=mean, temperature=4), BOTH)(X, target=Y)
    assert torch.equal(one.loss, alone.loss)


@pytest.mark.parametrize("weights", [(0.5, 0.6), (0.5,), (1.5, -0.5), (1.0, 0.0)])
def test_b026_weights_sum_to_one(weights: tuple[float, ...]) -> None:
    with pytest.raises(LimbeckError, match="weights must be 2 positive numbers that sum to 1"):
        Ensemble([mlp(), mlp()], mean="logits", weights=weights)


def test_an_ensemble_says_which_mean() -> None:
    with pytest.raises(LimbeckError, match="mean must be 'probabilities' or 'logits', got 'prob'"):
        Ensemble([mlp()], mean="prob")  # type: ignore[arg-type]
    with pytest.raises(LimbeckError, match="at least one source"):
        Ensemble([], mean="logits")


def test_three_equal_weights_are_exact_in_double_precision() -> None:
    teachers = [constant(*FIRST), constant(*SECOND), constant(*THEIRS)]
    ensemble = Ensemble(teachers, mean="logits")
    answer = ensemble(Batch(torch.zeros(1, 1)), Signals(), ["output"])["output"]
    expected = torch.tensor([FIRST, SECOND, THEIRS], dtype=torch.float64).mean(0)
    torch.testing.assert_close(answer[0], expected, rtol=1e-15, atol=0)


def test_maps_say_where_their_classes_are() -> None:
    torch.manual_seed(0)
    maps = torch.randn(2, 1, 3, 4, 5)
    teachers = [Custom(lambda m, x, z=z: z) for z in maps]
    ensemble = Ensemble(teachers, mean="probabilities", axis=1)
    answer = ensemble(Batch(X), Signals(), ["output"])["output"]
    torch.testing.assert_close(answer.softmax(1), maps.softmax(2).mean(0))


def test_teachers_with_views_of_their_own() -> None:
    members = [Frozen(mlp(seed=1), inputs=lambda x: x / 2), mlp(seed=2)]
    answer = Ensemble(members, mean="logits")(Batch(X), Signals(), ["output"])["output"]
    expected = (mlp(seed=1)(X / 2) + mlp(seed=2)(X)) / 2
    torch.testing.assert_close(answer, expected.detach())
    assert not answer.requires_grad


def test_an_ensemble_checks_every_member() -> None:
    ensemble = Ensemble([mlp(), nn.Linear(4, 3)], mean="logits")
    with pytest.raises(LimbeckError, match="got 'body'"):
        Distiller(mlp(), ensemble, 1.0 * Match(losses.hint, "body"))
