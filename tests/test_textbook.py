"""The textbook objective in one function says what its terms say apart."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distiller, Match, Objective, losses, truth
from limbeck.errors import LimbeckError
from limbeck.methods.confident import Confident
from limbeck.objective import Sum
from limbeck.projectors import linear
from limbeck.schedules import Linear
from limbeck.signals import Signals

each = pytest.mark.parametrize
KD = Match(losses.kl, temperature=4)
Parts = tuple[dict[str, Tensor], list[Tensor]]


def objective(hard: float = 0.3, soft: float = 0.7, **options: float) -> Sum:
    return hard * truth() + soft * Match(losses.kl, **options)


def apart(objective: Sum) -> Sum:
    """The same, its terms one after the other."""
    found = copy.deepcopy(objective)
    assert found.textbook is not None
    found.textbook = None
    return found


def drawn(rows: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    torch.manual_seed(0)
    s, t = (3 * torch.randn(rows, classes, dtype=dtype) for _ in range(2))
    return [s, t, torch.arange(rows) % classes]


def said(objective: Objective, s: Tensor, t: Tensor, target: Tensor) -> Parts:
    """The parts, and the gradients of each and of their sum."""
    s = s.detach().requires_grad_()
    signals = Signals(student={"output": s}, teacher={"output": t}, data={"target": target})
    parts = objective(signals)
    whole = [*parts.values(), sum(parts.values())]
    return parts, [torch.autograd.grad(value, s, retain_graph=True)[0] for value in whole]


def agree(found: Parts, expected: Parts, **limits: float) -> None:
    assert list(found[0]) == list(expected[0])
    limits = limits or {"rtol": 1e-10, "atol": 1e-12}
    for mine, terms in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, terms, equal_nan=True, **limits)


@each(
    "options", [{}, {"temperature": 4}, {"temperature": 0.5}, {"hard": 0, "soft": 2}, {"soft": 0}]
)
@each("rows", [0, 1, 6])
def test_it_says_what_the_terms_say_apart(options: dict[str, float], rows: int) -> None:
    whole = objective(**options)
    arrays = drawn(rows)
    agree(said(whole, *arrays), said(apart(whole), *arrays))


def test_in_single_precision() -> None:
    whole, arrays = objective(temperature=4), drawn(64, 100, torch.float32)
    agree(said(whole, *arrays), said(apart(whole), *arrays), rtol=1e-5, atol=1e-7)


@each("withheld", [[0], [0, 3, 4], range(6)])
def test_rows_without_a_label_do_not_count(withheld: list[int]) -> None:
    whole, (s, t, target) = objective(temperature=4), drawn()
    target[list(withheld)] = -100
    agree(said(whole, s, t, target), said(apart(whole), s, t, target))


@each("side", ["student", "teacher", "both"])
def test_a_class_of_minus_infinity(side: str) -> None:
    whole, (s, t, target) = objective(temperature=4), drawn()
    target[:] = 0
    for x in {"student": [s], "teacher": [t], "both": [s, t]}[side]:
        x[:, 4] = -math.inf
    found = said(whole, s, t, target)
    agree(found, said(apart(whole), s, t, target))
    assert side == "student" or all(value.isfinite() for value in found[0].values())


def test_a_part_that_is_nan_keeps_to_itself() -> None:
    whole, (s, t, target) = objective(), drawn()
    t[0, 0] = math.nan
    parts, (by_hard, by_soft, _) = said(whole, s, t, target)
    assert [bool(part.isfinite()) for part in parts.values()] == [True, False]
    assert [bool(grad.isfinite().all()) for grad in (by_hard, by_soft)] == [True, False]


@each("hard", [1.0, 0.3])
def test_without_the_teacher_it_is_the_labels_bit_for_bit(hard: float) -> None:
    """Whatever the gradient that comes in, as pieces of a batch bring it."""
    s, t, target = drawn(64, 10, torch.float32)
    target[5] = -100
    share = torch.tensor(1 / 3)
    found = []
    for whole in (objective(hard, 0.0), hard * truth()):
        logits = s.clone().requires_grad_()
        signals = Signals(
            student={"output": logits}, teacher={"output": t}, data={"target": target}
        )
        sum(share * part for part in whole(signals).values()).backward()
        found.append(logits.grad)
    assert torch.equal(*found)


def test_other_terms_follow() -> None:
    whole = objective(temperature=4) + 2 * Match(losses.logit_mse, name="mse")
    assert whole.textbook is not None
    agree(said(whole, *drawn()), said(apart(whole), *drawn()))


@each(
    "whole",
    [
        0.5 * truth(label_smoothing=0.1) + KD,
        0.5 * truth(given={"mask": "data:mask"}) + KD,
        0.5 * truth("head") + KD,
        0.5 * truth() + Match(losses.reverse_kl),
        0.5 * truth() + Match(losses.kl, axis=1),
        0.5 * truth() + Match(losses.kl, temperature=Linear(1, 4)),
        0.5 * truth() + Match(losses.kl, project=linear),
        0.5 * truth() + Linear(0, 1) * KD,
        truth(loss=losses.binary_cross_entropy) + KD,
        truth() + Confident(losses.kl, threshold=0.9),
        KD + truth(),
        1.0 * truth(),
    ],
)
def test_what_says_more_is_not_the_textbook(whole: Sum) -> None:
    assert whole.textbook is None


CASES: dict[str, Callable[[Tensor, Tensor, Tensor], list[Tensor]]] = {
    "mixed labels": lambda s, t, y: [s, t, nn.functional.one_hot(y, 5).to(s.dtype)],
    "maps": lambda s, t, y: [s[None], t[None], y[None]],
    "half precision": lambda s, t, y: [s.bfloat16(), t.bfloat16(), y],
    "another precision": lambda s, t, y: [s.float(), t, y],
}


@each("case", CASES)
def test_other_signals_go_term_by_term(case: str) -> None:
    whole, arrays = objective(temperature=4), CASES[case](*drawn())
    agree(said(whole, *arrays), said(apart(whole), *arrays), rtol=0, atol=0)


CHANGES: dict[str, Callable[[Sum], object]] = {
    "a weight": lambda whole: setattr(whole.pairs[0][0], "setting", 5.0),
    "the temperature": lambda whole: whole.pairs[1][1].options.update(temperature=2.0),
    "the axis": lambda whole: whole.pairs[1][1].options.update(axis=0),
    "smoothing": lambda whole: whole.pairs[0][1].options.update(label_smoothing=0.1),
    "the loss": lambda whole: setattr(whole.pairs[1][1], "loss", losses.reverse_kl),
    "a projector": lambda whole: setattr(whole.pairs[1][1], "projector", nn.Linear(5, 5).double()),
}


@each("change", CHANGES)
def test_terms_may_change_later(change: str) -> None:
    whole = objective(temperature=4)
    CHANGES[change](whole)
    agree(said(whole, *drawn()), said(apart(whole), *drawn()))


@each("temperature", [0, -4, math.nan])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    with pytest.raises(LimbeckError, match="temperature must be positive"):
        said(objective(temperature=temperature), *drawn())


def test_a_teacher_with_a_gradient_gets_it() -> None:
    whole, (s, t, target) = objective(), drawn()
    whole.pairs[1][1].detaches = False
    t.requires_grad_()
    signals = Signals(student={"output": s}, teacher={"output": t}, data={"target": target})
    (by_t,) = torch.autograd.grad(whole(signals)["kl"], t)
    assert by_t.any()


@each(
    ("arrays", "message"),
    [
        (lambda s, t, y: (s, t[:, :4], y), "kl: student 'output' .* must have one shape"),
        (lambda s, t, y: (s, t, y[:4]), "truth: .* labels must have the items' shape"),
        (lambda s, t, y: (s[:, :1], t[:, :1], y), "truth: .* at least 2 classes"),
        (lambda s, t, y: (s, t, y.double()), "truth: .* must have one shape"),
    ],
)
def test_errors_are_those_of_the_terms(
    arrays: Callable[..., tuple[Tensor, ...]], message: str
) -> None:
    with pytest.raises(LimbeckError, match=message):
        said(objective(), *arrays(*drawn()))


def test_a_second_derivative_is_refused() -> None:
    s, t, target = drawn()
    s.requires_grad_()
    signals = Signals(student={"output": s}, teacher={"output": t}, data={"target": target})
    for part in objective()(signals).values():
        with pytest.raises(RuntimeError, match="must be differentiated once"):
            torch.autograd.grad(part, s, create_graph=True)


@each("share", [None, {"truth": 0.25, "kl": 0.5}])
@each("withheld", [[], [2], range(6)])
def test_a_distiller_steps_the_same_way(
    share: dict[str, float] | None, withheld: list[int]
) -> None:
    torch.manual_seed(0)
    student, teacher = nn.Linear(4, 5).double(), nn.Linear(4, 5).double()
    x, target = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 4, 0])
    target[list(withheld)] = -100
    whole = objective(temperature=4)
    found = []
    for each_objective in (whole, apart(whole)):
        step = Distiller(student, teacher, each_objective)(x, target=target, share=share)
        weights = list(student.parameters())
        found.append(
            ({"loss": step.loss, **step.parts}, list(torch.autograd.grad(step.loss, weights)))
        )
        assert not any(part.requires_grad for part in step.parts.values())
    agree(*found)


def test_the_whole_refuses_a_second_derivative_and_says_what_is_infinite() -> None:
    s, t, target = drawn()
    s.requires_grad_()
    signals = Signals(student={"output": s}, teacher={"output": t}, data={"target": target})
    loss, _ = objective().total(signals)
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        torch.autograd.grad(loss, s, create_graph=True)
    t[0, 0] = math.nan
    loss, parts = objective().total(signals)
    assert loss.isnan()
    assert [bool(part.isnan()) for part in parts.values()] == [False, True]
