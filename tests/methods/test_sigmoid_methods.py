"""The methods for several labels and for numbers: what they are made of, and that they teach."""

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor

from limbeck import Distiller, Objective, losses, methods
from limbeck.methods.rows_sigmoid import ROWS

X, _ = batch()
NAMES = [row.name for row in ROWS]
FLAGS = (X[:, :3] > 0).float()
S, T = (net(X).detach() for net in (mlp(3), mlp(5, seed=1)))
BCE = losses.binary_cross_entropy(S, FLAGS)


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_sum_to_the_loss_and_the_student_learns(name: str) -> None:
    made = Distiller(mlp(3), mlp(5, seed=1), getattr(methods, name)())
    optimizer = torch.optim.SGD(made.student.parameters(), 1e-3)
    first = made(X, target=FLAGS)
    assert list(first.parts) == ["truth", name]
    assert first.loss.item() == pytest.approx(sum(x.item() for x in first.parts.values()), rel=1e-6)
    first.loss.backward()
    optimizer.step()
    assert made(X, target=FLAGS).loss < first.loss


@pytest.mark.parametrize("name", NAMES)
def test_without_truth_the_method_stands_alone(name: str) -> None:
    assert getattr(methods, name)(truth_weight=0.0).parts() == [name]


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (methods.binary_kl(), (1 * BCE, 1 * losses.binary_kl(S, T))),
        (methods.binary_kl(3.0), (1 * BCE, 1 * losses.binary_kl(S, T, temperature=3.0))),
        (methods.binary_hard(), (0.5 * BCE, 0.5 * losses.binary_hard(S, T))),
        (
            methods.squared_error(),
            (0.5 * losses.squared_error(S, FLAGS), 0.5 * losses.squared_error(S, T)),
        ),
    ],
)
def test_the_parts_are_the_losses_on_labels_and_source(
    objective: Objective, expected: tuple[Tensor, Tensor]
) -> None:
    step = Distiller(mlp(3), mlp(5, seed=1), objective)(X, target=FLAGS)
    assert tuple(step.parts.values()) == expected
