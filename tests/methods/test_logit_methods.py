"""The logit methods by name: what they are made of, and that they teach."""

import pytest
import torch
from tests.networks import batch, gradients, mlp

from limbeck import Distiller, Match, losses, methods
from limbeck.methods.rows_logit import ROWS

X, Y = batch()
NAMES = [row.name for row in ROWS]


@pytest.mark.parametrize("name", NAMES)
def test_the_parts_sum_to_the_loss_and_the_student_learns(name: str) -> None:
    made = Distiller(mlp(3), mlp(5, seed=1), getattr(methods, name)())
    made.advance(0.5)
    optimizer = torch.optim.SGD(made.student.parameters(), 1e-3)
    first = made(X, target=Y)
    assert first.loss.item() == pytest.approx(sum(x.item() for x in first.parts.values()), rel=1e-6)
    assert first.loss > 0
    first.loss.backward()
    assert all(grad.isfinite().all() for grad in gradients(made.student).values())
    optimizer.step()
    assert made(X, target=Y).loss < first.loss


@pytest.mark.parametrize("name", NAMES)
def test_without_truth_the_method_stands_alone(name: str) -> None:
    objective = getattr(methods, name)(truth_weight=0.0)
    assert len(objective.parts()) == 1
    assert "truth" not in objective.parts()


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_a_row_says_which_signals_it_needs(row: methods.Method) -> None:
    needs = getattr(methods, row.name)(truth_weight=0.0).needs()
    assert (("data", "target") in needs) == ("labels" in row.signal)
    assert row.taps == "output"


@pytest.mark.parametrize("alias", [alias for row in ROWS for alias in row.aliases])
def test_an_alias_is_the_method(alias: str) -> None:
    assert getattr(methods, alias) is getattr(methods, methods.NAMES[alias].name)


def test_the_textbook_is_the_formula() -> None:
    made = Distiller(mlp(3), mlp(5, seed=1), methods.kd())
    soft = Distiller(mlp(3), mlp(5, seed=1), 0.9 * Match(losses.kl, temperature=4))
    assert made(X, target=Y).parts["kl"] == soft(X).parts["kl"]


def test_a_method_of_standard_logits_is_free_of_the_source_s_scale() -> None:
    teacher = mlp(5, seed=1)
    louder = mlp(5, seed=1)
    with torch.no_grad():
        last = list(louder.parameters())[-2:]
        for parameter in last:
            parameter.mul_(7)
    for name in ("lskd", "dkd_ls"):
        a, b = (
            Distiller(mlp(3), t, getattr(methods, name)())(X, target=Y) for t in (teacher, louder)
        )
        assert a.loss.item() == pytest.approx(b.loss.item(), rel=1e-5)
