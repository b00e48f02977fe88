"""The logit methods by name: what they are made of, and that they teach."""

from inspect import signature
from typing import Any

import pytest
import torch
from tests.networks import batch, gradients, mlp

from limbeck import Distiller, losses, methods
from limbeck.methods.index import Method
from limbeck.methods.rows_logit import ROWS

X, Y = batch()
NAMES = [row.name for row in ROWS]
SETTINGS: dict[str, tuple[float, float, dict[str, Any]]] = {
    # the labels' weight, the source's, the settings of the loss
    "kd": (0.1, 0.9, {"temperature": 4.0}),
    "reverse_kl": (0, 1, {"temperature": 1.0}),
    "jeffreys": (0.1, 0.45, {"temperature": 4.0}),
    "jsd": (0, 1, {"mixture": 0.5, "temperature": 1.0}),
    "skew_kl": (0, 1, {"alpha": 0.1}),
    "skew_reverse_kl": (0, 1, {"alpha": 0.1}),
    "total_variation": (0, 1, {}),
    "akl": (0, 1, {"mu": 0.5}),
    "logit_mse": (0, 1, {}),
    "logit_l1": (0, 1, {}),
    "hard": (0.5, 0.5, {}),
    "dkd": (1, 1, {"alpha": 1.0, "beta": 8.0, "temperature": 4.0}),
    "nkd": (1, 1, {"gamma": 1.5, "temperature": 1.0}),
    "dist": (1, 2, {"beta": 1.0, "gamma": 1.0, "temperature": 4.0}),
    "wsld": (1, 2.5, {"temperature": 2.0}),
    "lskd": (0.1, 9, {"temperature": 2.0}),
    "dkd_ls": (1, 9, {"alpha": 1.0, "beta": 8.0, "temperature": 2.0}),
    "mlkd": (0.1, 0.675, {"temperatures": (4.0, 3.0, 5.0, 2.0, 6.0), "pairs": 1 / 3}),
    "ttm": (1, 45, {"gamma": 0.1}),
    "wttm": (1, 4, {"gamma": 0.2}),
}
LOSSES = {"kd": losses.kl, "dkd_ls": losses.standardised(losses.dkd)}


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
def test_a_row_says_which_signals_it_needs(row: Method) -> None:
    needs = getattr(methods, row.name)(truth_weight=0.0).needs()
    assert (("data", "target") in needs) == ("labels" in row.signal)
    assert row.taps == "output"


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("share", [1, 0.5])
def test_the_weights_are_those_and_every_setting_reaches_the_loss(name: str, share: float) -> None:
    hard, soft, settings = SETTINGS[name]
    settings = {key: scaled(value, share) for key, value in settings.items()}
    made = Distiller(
        mlp(3), mlp(5, seed=1), getattr(methods, name)(**{} if share == 1 else settings)
    )
    s, t = mlp(3)(X), mlp(5, seed=1)(X)
    loss = LOSSES.get(name) or getattr(losses, name)
    labels = {"target": Y} if "target" in signature(loss).parameters else {}
    *truth, term = made(X, target=Y).parts.values()
    assert term.item() == pytest.approx(soft * loss(s, t, **labels, **settings).item(), rel=1e-6)
    assert truth == ([hard * losses.cross_entropy(s, Y)] if hard else [])


def scaled(value: Any, share: float) -> Any:
    return tuple(x * share for x in value) if isinstance(value, tuple) else value * share


def test_no_method_is_left_out() -> None:
    assert {*SETTINGS, "ctkd"} == {*NAMES}


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
