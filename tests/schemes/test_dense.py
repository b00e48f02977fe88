"""Several teachers of the same terms, by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distiller, Match, losses, truth
from limbeck.balance import Balance
from limbeck.errors import LimbeckError
from limbeck.objective import Objective
from limbeck.projectors import linear
from limbeck.schedules import Linear
from limbeck.schemes.guided import Turns, dense
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

each = pytest.mark.parametrize
NAMES = ["teacher", "assistant-1", "assistant-2"]


def made(name: str) -> Objective:
    return 0.25 * truth() + 0.75 * Match(losses.kl, temperature=2)


def group(objective: Objective, seed: int = 0) -> Distiller:
    torch.manual_seed(seed)
    student, *teachers = [nn.Linear(4, 3) for _ in range(4)]
    return Distiller(student, dict(zip(NAMES, teachers, strict=True)), objective)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(6, 4, generator=generator), torch.tensor([0, 1, 2, 0, 1, -100])


def test_the_loss_is_the_labels_and_the_mean_of_the_teachers(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    distiller = group(dense(made, NAMES))
    step = distiller(x, target=y)
    s = distiller.student(x)
    kls = [losses.kl(s, t.modules()[0](x), temperature=2) for t in distiller.sources.values()]
    expected = 0.25 * losses.cross_entropy(s, y) + 0.75 * sum(kls) / 3
    torch.testing.assert_close(step.loss, expected)
    assert list(step.parts) == ["truth", "kl:teacher", "kl:assistant-1", "kl:assistant-2"]


def test_one_teacher_is_the_objective_as_it_is(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    alone = group(dense(made, ["teacher"]))(x, target=y)
    plain = group(made("teacher"))(x, target=y)
    assert list(alone.parts) == ["truth", "kl"]
    assert torch.equal(alone.loss, plain.loss)


def test_weights_may_follow_a_schedule_or_a_balance(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    ramped = group(dense(lambda name: truth() + Linear(0, 1) * Match(losses.kl), NAMES))
    ramped.advance(0.5)
    steady = group(dense(lambda name: truth() + 0.5 * Match(losses.kl), NAMES))
    torch.testing.assert_close(ramped(x, target=y).loss, steady(x, target=y).loss)
    balanced = group(dense(lambda name: truth() + Balance(0.6) * Match(losses.kl), NAMES))
    balanced.prepare(x, target=y)
    parts = balanced(x, target=y).parts
    for name in NAMES:
        torch.testing.assert_close(parts[f"kl:{name}"], 0.2 * parts["truth"])


def test_those_who_are_heard_weigh_what_all_would(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    whole = group(dense(made, NAMES))(x, target=y).parts
    distiller = group(dense(made, NAMES, drop=0.5, seed=3))
    counts = set[int]()
    for _ in range(20):
        distiller.advance(0.0)
        parts = distiller(x, target=y).parts
        heard = [name for name in NAMES if parts[f"kl:{name}"] != 0]
        counts.add(len(heard))
        for name in heard:
            torch.testing.assert_close(parts[f"kl:{name}"], 3 / len(heard) * whole[f"kl:{name}"])
        assert torch.equal(parts["truth"], whole["truth"])
    assert counts == {1, 2, 3}


def calls_of(distiller: Distiller) -> dict[str, list[int]]:
    """Counts the forwards of each teacher."""
    calls: dict[str, list[int]] = {name: [] for name in NAMES}
    for name in NAMES:
        teacher = distiller.sources[name].modules()[0]
        teacher.register_forward_hook(lambda *_, name=name: calls[name].append(1))
    return calls


def test_who_is_left_out_is_not_asked(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    distiller = group(dense(made, NAMES, drop=0.5, seed=3))
    calls, heard = calls_of(distiller), dict.fromkeys(NAMES, 0)
    for _ in range(20):
        distiller.advance(0.0)
        parts = distiller(x, target=y).parts
        for name in NAMES:
            heard[name] += bool(parts[f"kl:{name}"])
    assert {name: len(found) for name, found in calls.items()} == heard
    assert sum(heard.values()) < 50


def test_who_others_read_too_is_asked(batch: tuple[Tensor, Tensor]) -> None:
    """By another term, or by another kind of source."""

    class Doubled(Source):
        def __call__(
            self, batch: Batch, signals: Signals, wants: Sequence[str]
        ) -> Mapping[str, Any]:
            return {want: 2 * signals.of("assistant-1", want) for want in wants}

    x, y = batch
    hidden = Match(losses.squared_error, source="assistant-1", name="other")
    read = group(dense(made, NAMES, drop=0.5, seed=3) + hidden)
    plain = group(dense(made, NAMES, drop=0.5, seed=3))
    objective = plain.objective + Match(losses.kl, source="twice")
    heard = Distiller(plain.student, {**plain.sources, "twice": Doubled()}, objective)
    for distiller in (read, heard):
        calls = calls_of(distiller)["assistant-1"]
        for _ in range(10):
            distiller.advance(0.0)
            distiller(x, target=y)
        assert len(calls) == 10


def test_a_projector_of_who_is_left_out_has_a_gradient_of_0(batch: tuple[Tensor, Tensor]) -> None:
    """So that ranks exchange one, and the optimizer does as with a weight of 0."""
    x, y = batch

    def with_hint(name: str) -> Objective:
        return truth() + Match(losses.hint, "output", "output", project=linear)

    distiller = group(dense(with_hint, NAMES, drop=0.5, seed=3))
    distiller.prepare(x, target=y)
    silent = 0
    for _ in range(6):
        distiller.advance(0.0)
        distiller.zero_grad()
        step = distiller(x, target=y)
        step.loss.backward()
        for match in distiller.matches[1:]:
            (weight, bias) = match.projector.parameters()
            assert bool(weight.grad.any()) == bool(bias.grad.any())
            silent += not weight.grad.any()
        assert sum(not value for value in step.parts.values()) == sum(
            not match.projector.weight.grad.any() for match in distiller.matches[1:]
        )
    assert 0 < silent < 18


def test_each_is_left_out_as_often_as_the_chance_says() -> None:
    """With K = 2 both are drawn out with chance p^2, when either of them is called back."""
    drop, steps = 0.4, 4000
    turns = Turns(2, drop, seed=0)
    absent = [0, 0]
    for _ in range(steps):
        turns.advance(0.0)
        for k in {0, 1} - set(turns.heard()):
            absent[k] += 1
    expected = drop - drop**2 / 2
    spread = (expected * (1 - expected) / steps) ** 0.5
    assert all(abs(n / steps - expected) < 4 * spread for n in absent)


def test_the_draw_is_a_function_of_seed_and_step_alone() -> None:
    def heard(seed: int) -> list[list[int]]:
        turns = Turns(3, 0.5, seed)
        found = []
        for _ in range(12):
            turns.advance(0.0)
            torch.rand(3)
            found.append(turns.heard())
        return found

    assert heard(0) == heard(0)
    assert heard(0) != heard(1)


def test_a_state_that_is_loaded_goes_on_with_the_same_draws(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    first, second = (group(dense(made, NAMES, drop=0.5)) for _ in range(2))
    for _ in range(5):
        first.advance(0.0)
    second.load_state_dict(first.state_dict())
    for _ in range(6):
        for distiller in (first, second):
            distiller.advance(0.0)
        assert torch.equal(first(x, target=y).loss, second(x, target=y).loss)


def test_one_that_nobody_advances_is_refused(batch: tuple[Tensor, Tensor]) -> None:
    x, y = batch
    with pytest.raises(LimbeckError, match="advance was never called"):
        group(dense(made, NAMES, drop=0.5))(x, target=y)


@each("drop", [-0.1, 1.0, 2.0])
def test_a_chance_is_at_least_0_and_below_1(drop: float) -> None:
    with pytest.raises(LimbeckError, match=r"drop must be in \[0, 1\)"):
        dense(made, NAMES, drop=drop)


def test_no_teacher_is_refused() -> None:
    with pytest.raises(LimbeckError, match="at least one teacher"):
        dense(made, [])
