"""The methods for several labels and for numbers: what they are made of, and that they teach."""

import pytest
import torch
from tests.networks import batch, mlp

from limbeck import Distiller, methods
from limbeck.methods.rows_sigmoid import ROWS

X, _ = batch()
NAMES = [row.name for row in ROWS]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_sum_to_the_loss_and_the_student_learns(name: str) -> None:
    made = Distiller(mlp(3), mlp(5, seed=1), getattr(methods, name)())
    flags = (X[:, :3] > 0).float()
    optimizer = torch.optim.SGD(made.student.parameters(), 1e-3)
    first = made(X, target=flags)
    assert list(first.parts) == ["truth", name]
    assert first.loss.item() == pytest.approx(sum(x.item() for x in first.parts.values()), rel=1e-6)
    first.loss.backward()
    optimizer.step()
    assert made(X, target=flags).loss < first.loss


@pytest.mark.parametrize("name", NAMES)
def test_without_truth_the_method_stands_alone(name: str) -> None:
    assert getattr(methods, name)(truth_weight=0.0).parts() == [name]


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_is_listed_and_explained(row: methods.Method) -> None:
    assert any(line.startswith(f"{row.name} ") for line in methods.index().splitlines())
    assert row.formula in methods.explain(row.name)
