"""Weights that are found on the first batch."""

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.networks import Convs, Noisy, batch, mlp
from torch import Tensor, nn

from limbeck import Balance, Distiller, Match, Objective, Term, losses, truth
from limbeck.checkpoint import save_weights
from limbeck.errors import LimbeckError
from limbeck.projectors import conv, linear
from limbeck.schedules import Linear

X, Y = batch()
each = pytest.mark.parametrize


def hint() -> Match:
    return Match(losses.hint, "body", project=linear)


def soft() -> Match:
    return Match(losses.kl, temperature=4)


def make(objective: Objective, student: nn.Module | None = None, seed: int = 0) -> Distiller:
    made = Distiller(student or mlp(2), mlp(5, seed=1), objective)
    torch.manual_seed(seed)
    made.prepare(X, target=Y)
    return made


def parts(distiller: Distiller) -> dict[str, float]:
    return {name: float(part) for name, part in distiller(X, target=Y).parts.items()}


def factor(distiller: Distiller) -> Tensor:
    (name,) = [name for name in distiller.state_dict() if name.endswith("current")]
    return distiller.state_dict()[name].clone()


# ---- what is found


def test_a_term_starts_as_a_fraction_of_the_truth() -> None:
    seen = parts(make(truth() + Balance(0.5) * hint()))
    assert seen["hint[body]"] == pytest.approx(0.5 * seen["truth"], rel=1e-6)


def test_it_is_balanced_with_all_weighted_terms_that_are_not_balanced() -> None:
    objective = 0.3 * truth() + 0.7 * soft() + Balance(2) * hint() + Balance(0.1) * own()
    seen, plain = parts(make(objective)), parts(make(0.3 * truth() + 0.7 * soft()))
    rest = plain["truth"] + plain["kl"]
    assert seen == pytest.approx({**plain, "hint[body]": 2 * rest, "own": 0.1 * rest}, rel=1e-6)


def own() -> Term:
    return Term(lambda z: (z**2).mean(), given={"z": "student:output"}, name="own")


def test_a_schedule_counts_as_it_stands() -> None:
    distiller = make(truth() + Linear(0, 1) * soft() + Balance(0.5) * hint())
    distiller.advance(0.0)
    seen = parts(distiller)
    assert seen["kl"] == 0
    assert seen["hint[body]"] == pytest.approx(0.5 * seen["truth"], rel=1e-6)


def test_batch_statistics_are_those_of_training() -> None:
    """In eval mode a fresh student has other activations; the first step is what counts."""
    objective = truth() + Balance(0.5) * Match(losses.hint, "norm", project=conv)
    distiller = Distiller(Convs(4), Convs(6), objective)
    images = 5 + torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    distiller.prepare(images, target=Y[:2])
    first = distiller(images, target=Y[:2]).parts
    assert float(first["hint[norm]"] / first["truth"]) == pytest.approx(0.5, rel=1e-5)
    distiller.student.eval()
    later = distiller(images, target=Y[:2]).parts
    assert float(later["hint[norm]"] / later["truth"]) != pytest.approx(0.5, rel=0.05)


class Counting(nn.Module):
    """Puts a new tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls = self.calls + 1
        return x


def test_finding_leaves_no_trace() -> None:
    student = nn.Sequential(Noisy(), Counting()).train()
    student[0].stem.eval()
    distiller = Distiller(student, mlp(seed=1), truth() + Balance(0.5) * soft())
    before, modes = copy.deepcopy(student.state_dict()), [m.training for m in student.modules()]
    state = torch.get_rng_state()
    distiller.prepare(X, target=Y)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in student.modules()] == modes
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])


def test_projectors_are_drawn_as_without_a_balance() -> None:
    student = nn.Sequential(mlp(2), nn.Dropout())
    name = "objective.terms.1.projector.weight"
    balanced, weighted = (
        make(truth() + weight * Match(losses.hint, "0.body", "body", project=linear), student)
        for weight in (Balance(0.5), 1.0)
    )
    assert torch.equal(balanced.state_dict()[name], weighted.state_dict()[name])


# ---- objectives add and scale


@each(
    ("build", "ratio"),
    [
        (lambda: 2 * (truth() + Balance(0.5) * hint()), 0.5),
        (lambda: truth() + 3 * (Balance(0.5) * hint()), 1.5),
        (lambda: truth() + (Balance(0.5) * hint()) * 0.5, 0.25),
        (lambda: Balance(0.5) * (0.5 * hint()) + truth(), 0.25),
        (lambda: 0.5 * (3 * (truth() + Balance(0.5) * hint())), 0.5),
    ],
)
def test_balances_scale_like_numbers(build: Callable[[], Objective], ratio: float) -> None:
    seen = parts(make(build()))
    assert seen["hint[body]"] == pytest.approx(ratio * seen["truth"], rel=1e-6)


@each(
    ("build", "kinds"),
    [
        (lambda: Linear(0, 1) * (Balance(1) * soft()), "a schedule times a balance"),
        (lambda: Balance(1) * (Linear(0, 1) * soft()), "a balance times a schedule"),
        (lambda: Linear(0, 1) * (truth() + Balance(1) * soft()), "a schedule times a balance"),
        (lambda: Balance(1) * (Balance(1) * soft()), "a balance times a balance"),
    ],
)
def test_a_balance_times_what_moves_is_an_error(build: Callable[[], Objective], kinds: str) -> None:
    with pytest.raises(LimbeckError, match=f"one schedule or balance, got {kinds}; leave one out"):
        build()


# ---- from then on


def test_the_factor_stays_and_is_no_parameter() -> None:
    distiller = make(truth() + Balance(0.5) * hint())
    before = factor(distiller)
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    for seed in range(3):
        x, y = batch(seed=seed)
        distiller(x, target=y).loss.backward()
        optimizer.step()
    distiller.prepare(*batch(seed=9)[:1], target=batch(seed=9)[1])
    assert torch.equal(factor(distiller), before)
    assert not [name for name, _ in distiller.named_parameters() if "current" in name]


@each(
    "move",
    [
        lambda d: d.half().float(),
        lambda d: d.double().float(),
        lambda d: copy.deepcopy(d),
        lambda d: pickle.loads(pickle.dumps(d)),
    ],
)
def test_moving_and_copying_keep_its_bits(move: Callable[[Distiller], Distiller]) -> None:
    distiller = make(truth() + Balance(1e-3) * soft())
    before = factor(distiller)
    moved = move(distiller)
    assert torch.equal(factor(moved), before)
    assert moved(X, target=Y).loss.isfinite()


def test_it_survives_a_change_of_device() -> None:
    distiller = make(truth() + Balance(1e-3) * soft())
    before = factor(distiller)
    distiller.to("meta")
    assert factor(distiller).is_meta
    saved = make(truth() + Balance(1e-3) * soft()).state_dict()
    distiller.to_empty(device="cpu").load_state_dict(saved)
    assert torch.equal(factor(distiller), before)


def test_a_saved_factor_is_used_whether_or_not_there_was_a_first_batch() -> None:
    distiller = make(truth() + Balance(0.5) * soft())
    for fresh in (
        Distiller(mlp(2, seed=3), mlp(5, seed=1), truth() + Balance(0.5) * soft()),
        make(truth() + Balance(0.5) * soft(), mlp(2, seed=3)),
    ):
        fresh.load_state_dict(distiller.state_dict())
        fresh.prepare(2 * X, target=Y)
        assert torch.equal(factor(fresh), factor(distiller))
        assert parts(fresh) == parts(distiller)


def test_the_student_is_saved_without_it(tmp_path: Path) -> None:
    distiller = make(truth() + Balance(0.5) * hint())
    save_weights(distiller.student, tmp_path / "student.safetensors")
    assert load_file(tmp_path / "student.safetensors").keys() == mlp(2).state_dict().keys()


# ---- what has no answer


@each("fraction", [0, -0.5, math.nan, math.inf])
def test_fractions_are_positive_and_finite(fraction: float) -> None:
    with pytest.raises(ValueError, match="fraction must be positive and finite, got"):
        Balance(fraction)


def test_nothing_to_be_balanced_with_is_an_error_at_once() -> None:
    for objective in (Balance(1) * soft(), Balance(0.5) * truth() + Balance(1) * soft()):
        with pytest.raises(LimbeckError, match=r"\[.*'kl'\] must have a term to be balanced with"):
            Distiller(mlp(), mlp(seed=1), objective)


def test_a_distiller_that_was_not_prepared_says_so() -> None:
    distiller = Distiller(mlp(), mlp(seed=1), truth() + Balance(0.5) * soft())
    message = "kl is balanced, but has no factor yet; call distiller.prepare"
    with pytest.raises(LimbeckError, match=message):
        distiller(X, target=Y)
    with torch.no_grad(), pytest.raises(LimbeckError, match=message):
        distiller(X, target=Y)
    unknown = copy.deepcopy(distiller.state_dict())
    distiller.prepare(X, target=Y)
    distiller.load_state_dict(unknown)
    with pytest.raises(LimbeckError, match=message):
        distiller(X, target=Y)


def constant(value: float, name: str) -> Term:
    return Term(lambda z: 0 * z.sum() + value, given={"z": "student:output"}, name=name)


@each("value", [0.0, -1.0, math.nan, math.inf])
def test_first_values_are_positive_and_finite(value: float) -> None:
    pairs = {
        "odd": truth() + Balance(0.5) * constant(value, "odd"),
        "what kl is balanced with": constant(value, "odd") + Balance(0.5) * soft(),
    }
    for what, objective in pairs.items():
        distiller = Distiller(mlp(), mlp(seed=1), objective)
        with pytest.raises(LimbeckError, match=f"^{what} must be positive and .*, got {value}; "):
            distiller.prepare(X, target=Y)
        assert not distiller.prepared


def test_a_first_batch_without_labels_is_named() -> None:
    distiller = Distiller(mlp(), mlp(seed=1), truth() + Balance(0.5) * soft())
    with pytest.raises(LimbeckError, match=r"what kl is balanced with .* \(one with labels\)"):
        distiller.prepare(X, target=torch.full_like(Y, -100))
    distiller.prepare(X, target=Y)
    assert parts(distiller)["kl"] > 0
