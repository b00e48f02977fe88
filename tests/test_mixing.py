"""Weights of an ensemble that differ by class, against loops."""

import math
from typing import Any

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor

from limbeck import Distiller, Ensemble, Match, losses
from limbeck.errors import LimbeckError
from limbeck.sources import Source

W = [[0.2, 0.5, 1.0, 0.0], [0.8, 0.25, 0.0, 0.0], [0.0, 0.25, 0.0, 1.0]]
Z = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ensemble(weights: Any = W, mean: Any = "logits", **keys: Any) -> Ensemble:
    return Ensemble([Source() for _ in weights], mean=mean, weights=weights, **keys)


def softmax(z: Tensor) -> list[float]:
    e = [math.exp(x) for x in z.tolist()]
    return [x / sum(e) for x in e]


def test_the_mean_of_logits_by_class() -> None:
    found = ensemble().combine(list(Z))
    for i in range(5):
        for c in range(4):
            right = sum(W[k][c] * Z[k, i, c].item() for k in range(3))
            assert found[i, c].item() == pytest.approx(right, rel=1e-12)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_mean_of_probabilities_by_class_sums_to_1_again(temperature: float) -> None:
    found = ensemble(mean="probabilities", temperature=temperature).combine(list(Z))
    for i in range(5):
        p = [softmax(z[i] / temperature) for z in Z]
        mixed = [sum(W[k][c] * p[k][c] for k in range(3)) for c in range(4)]
        right = [x / sum(mixed) for x in mixed]
        assert softmax(found[i] / temperature) == pytest.approx(right, rel=1e-10)


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_the_same_weight_for_every_class_is_one_a_source(mean: Any) -> None:
    by_source = ensemble([0.2, 0.3, 0.5], mean).combine(list(Z))
    by_class = ensemble(torch.tensor([[0.2], [0.3], [0.5]]).expand(3, 4), mean).combine(list(Z))
    torch.testing.assert_close(by_class, by_source, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_classes_may_be_on_another_axis(mean: Any) -> None:
    flat = ensemble(mean=mean).combine(list(Z))
    maps = Z.mT[..., None]  # (3, 4, 5, 1): what were items are places
    for axis in (0, -3):
        found = ensemble(mean=mean, axis=axis).combine(list(maps))
        torch.testing.assert_close(found[..., 0].T, flat)


def test_a_class_that_a_source_excludes_is_left_to_the_others() -> None:
    """The second does not know class 2, the first class 3, and neither has weight there."""
    z = Z.clone()
    z[1, :, 2] = z[0, :, 3] = -torch.inf
    assert ensemble().combine(list(z)).isfinite().all()


@pytest.mark.parametrize("mean", ["logits", "probabilities"])
def test_half_precision_is_combined_in_single(mean: Any) -> None:
    found = ensemble(mean=mean).combine(list(Z.half()))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ensemble(mean=mean).combine(list(Z.half().float())))


def test_a_student_learns_from_weights_by_class() -> None:
    x, _ = batch()
    teachers = [mlp(seed=1), mlp(seed=2)]
    weights = [[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]
    source = Ensemble(teachers, mean="logits", weights=weights)
    step = Distiller(mlp(), source, 1.0 * Match(losses.kl))(x)
    one, two = (teacher(x) for teacher in teachers)
    target = torch.stack([one[:, 0], two[:, 1], (one[:, 2] + two[:, 2]) / 2], 1)
    torch.testing.assert_close(step.loss, losses.kl(mlp()(x), target))
    step.loss.backward()
    assert all(p.grad is None for teacher in teachers for p in teacher.parameters())


@pytest.mark.parametrize(
    "weights",
    [
        [[0.5, 0.5], [0.5, 0.4]],
        [[1.5, 0.5], [-0.5, 0.5]],
        [[1.0, 1.0]],
        [[0.5, 0.5], [0.3, 0.3], [0.2, 0.2]],
    ],
)
def test_weights_of_classes_sum_to_1_for_each(weights: list[list[float]]) -> None:
    with pytest.raises(LimbeckError, match="weights of classes must be 2 rows of numbers"):
        Ensemble([mlp(), mlp()], mean="logits", weights=weights)


def test_weights_are_for_as_many_classes_as_there_are() -> None:
    with pytest.raises(LimbeckError, match="weights are of 4 classes, got logits of 5"):
        ensemble().combine(list(torch.zeros(3, 2, 5)))
