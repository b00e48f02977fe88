"""Objectives add and scale; public reports by their ids."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.networks import batch, mlp
from torch import Tensor, nn

from limbeck import Distiller, Match, Objective, Term, losses, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import linear
from limbeck.schedules import Linear, Steps
from limbeck.signals import Signals

S = torch.tensor([[1.0, 2.0, 0.5, -1.0], [0.0, 0.3, -0.7, 1.5]], dtype=torch.float64)
T = torch.tensor([[2.0, 1.0, 0.0, -2.0], [0.5, -0.5, 0.25, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([1, 3])
SIGNALS = Signals(student={"output": S}, teacher={"output": T}, data={"target": LABELS})
CE, KD = 0.49345135, 0.314367134
X, Y = batch()


def score(objective: Objective, signals: Signals = SIGNALS) -> dict[str, float]:
    return {name: float(value) for name, value in objective(signals).items()}


# ---- sums


def test_b139_the_formula_of_the_textbook() -> None:
    alpha = 0.3
    soft = Match(losses.kl, temperature=4)
    on_soft = score((1 - alpha) * truth() + alpha * soft)
    assert on_soft == pytest.approx({"truth": 0.7 * CE, "kl": 0.3 * KD}, rel=1e-7)
    assert sum(on_soft.values()) == pytest.approx(0.439726085, rel=1e-8)
    on_labels = score(alpha * truth() + (1 - alpha) * soft)
    assert sum(on_labels.values()) == pytest.approx(0.368092399, rel=1e-8)


def test_label_smoothing_never_touches_the_soft_term() -> None:
    parts = score(0.5 * truth(label_smoothing=0.1) + 0.5 * Match(losses.kl, temperature=4))
    assert parts == pytest.approx({"truth": 0.5 * 0.62345135, "kl": 0.5 * KD}, rel=1e-7)


def test_weights_multiply_through_nested_sums() -> None:
    a, b = truth(), Match(losses.kl, temperature=4)
    c = Match(losses.reverse_kl, temperature=4)
    nested = 0.5 * (a + 3 * b) * 2 + c
    assert nested.parts() == ["truth", "kl", "reverse_kl"]
    expected = {"truth": CE, "kl": 3 * KD, "reverse_kl": 0.303777974}
    assert score(nested) == pytest.approx(expected, rel=1e-7)


def test_adding_leaves_the_terms_as_they_were() -> None:
    half = 0.5 * truth()
    _ = 3 * half + Match(losses.kl)
    assert score(half) == pytest.approx({"truth": 0.5 * CE}, rel=1e-7)


def test_needs_are_those_of_all_terms() -> None:
    objective = truth() + 2 * (Match(losses.hint, "a", "b", source="big") + Match(losses.kl))
    assert objective.needs() == [
        ("student", "output"),
        ("data", "target"),
        ("student", "a"),
        ("big", "b"),
        ("student", "output"),
        ("teacher", "output"),
    ]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Match(losses.kl), "kl"),
        (lambda: Match(losses.kl, "output.logits"), "kl"),
        (lambda: Match(losses.hint, "layer3.1"), "hint[layer3.1]"),
        (lambda: Match(losses.hint, "output_layer"), "hint[output_layer]"),
        (lambda: Match(losses.hint, "layer3", source="big"), "hint[layer3]:big"),
        (lambda: Match(losses.kl, source="peers"), "kl:peers"),
        (lambda: Match(losses.kl, name="soft"), "soft"),
        (lambda: Match(functools.partial(losses.kl, temperature=2)), "partial"),
        (lambda: Match(nn.MSELoss()), "MSELoss"),
        (lambda: Match(F.l1_loss), "l1_loss"),
        (lambda: truth(), "truth"),
        (lambda: truth("output.aux", "fine", name="fine"), "fine"),
        (lambda: Term(torch.relu, given={"input": "student:output.loss"}), "relu"),
    ],
)
def test_parts_are_named(make: Callable[[], Objective], name: str) -> None:
    assert make().parts() == [name]


def test_a_clash_of_names_is_an_error() -> None:
    with pytest.raises(LimbeckError, match=r"names of their own, got \['kl'\] twice; give name="):
        Match(losses.kl, temperature=1) + 0.5 * (truth() + Match(losses.kl, temperature=4))


def test_b140_parts_are_weighted_detached_and_sum_to_the_loss() -> None:
    objective = 0.05 * truth() + 0.95 * Match(losses.kl, temperature=6)
    step = Distiller(mlp(), mlp(seed=1), objective)(X, target=Y)
    assert list(step.parts) == ["truth", "kl"]
    assert not any(part.requires_grad for part in step.parts.values())
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach(), rtol=1e-6, atol=0)
    s, t = mlp()(X) / 6, mlp(seed=1)(X) / 6
    bare = F.kl_div(s.log_softmax(1), t.log_softmax(1), reduction="batchmean", log_target=True)
    torch.testing.assert_close(step.parts["kl"], 34.2 * bare.detach())


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (lambda: 1.0 * Match(losses.hint, "body"), ["hint[body]"]),
        (lambda: 1.0 * Match(losses.kl), ["kl"]),
        (lambda: 1.0 * Match(losses.rkd_distance, "body"), ["rkd_distance[body]"]),
        (lambda: Match(losses.kl), ["kl"]),
        (
            lambda: (
                truth() + Match(losses.kl) + Match(losses.rkd_angle) + Match(losses.hint, "body")
            ),
            ["truth", "kl", "rkd_angle", "hint[body]"],
        ),
    ],
)
def test_b136_only_what_was_asked_for_runs(make: Callable[[], Objective], parts: list[str]) -> None:
    distiller = Distiller(mlp(), mlp(seed=1), make())
    data = {"target": Y} if "truth" in parts else {}
    step = distiller(X, **data)
    step.loss.backward()
    assert list(step.parts) == parts
    assert all(part > 0 for part in step.parts.values())


def test_only_objectives_add_up() -> None:
    for wrong in (lambda: truth() + 1, lambda: truth() + losses.kl):
        with pytest.raises(TypeError, match="only objectives add up"):
            wrong()


@pytest.mark.parametrize("weight", ["0.5", None, torch.tensor(0.5)])
def test_weights_are_numbers_or_schedules(weight: Any) -> None:
    with pytest.raises(TypeError, match="a weight must be a number, a schedule or a Balance"):
        truth() * weight


def test_a_bare_objective_says_what_it_lacks() -> None:
    for method in (Objective().needs, Objective().parts, lambda: Objective()(SIGNALS)):
        with pytest.raises(TypeError, match="Objective must"):
            method()


# ---- schedules


def scheduled() -> Objective:
    soft = Match(losses.kl, temperature=Linear(1, 7))
    return Linear(0, 1) * truth() + Steps((0.5,), (2.0, 1.0)) * soft


def test_advancing_moves_weights_and_temperatures() -> None:
    objective = scheduled()
    objective.advance(0.5)
    assert score(objective) == pytest.approx({"truth": 0.5 * CE, "kl": KD}, rel=1e-6)
    objective.advance(0.0)
    assert score(objective) == pytest.approx({"truth": 0.0, "kl": 2 * 0.31213389}, rel=1e-6)


def test_a_schedule_scales_and_nests() -> None:
    objective = 3 * (0.5 * (Linear(0, 1) * truth()) + Match(losses.kl, temperature=4))
    objective.advance(0.2)
    assert score(objective) == pytest.approx({"truth": 0.3 * CE, "kl": 3 * KD}, rel=1e-6)
    with pytest.raises(LimbeckError, match="a schedule times a schedule"):
        Linear(0, 1) * (Linear(0, 1) * truth())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(0, 1) * truth() + Match(losses.kl),
        lambda: truth() + Match(losses.kl, temperature=Linear(4, 1)),
        lambda: truth() + (Linear(0, 1) * Match(losses.kl)) * 0.5,
    ],
)
def test_a_schedule_that_was_never_advanced_is_an_error(make: Callable[[], Objective]) -> None:
    distiller = Distiller(mlp(), mlp(seed=1), make())
    distiller.prepare(X, target=Y)
    with pytest.raises(LimbeckError, match=r"advance was never called; call distiller.advance"):
        distiller(X, target=Y)
    with torch.no_grad():
        assert distiller(X, target=Y).loss.isfinite()
    distiller.advance(0.0)
    assert distiller(X, target=Y).loss.isfinite()
    assert copy.deepcopy(distiller)(X, target=Y).loss.isfinite()


def test_a_schedule_keeps_its_precision_whatever_the_model_has() -> None:
    objective = Linear(0.1, 1) * truth()
    objective.advance(0.0)
    for move in (lambda m: m.bfloat16(), lambda m: m.double(), lambda m: m.to_empty(device="cpu")):
        assert score(move(objective)) == pytest.approx({"truth": 0.1 * CE}, rel=1e-7)


def test_a_schedule_is_no_state() -> None:
    assert scheduled().state_dict() == {}


# ---- matches


def test_the_source_takes_no_gradient() -> None:
    s, t = S.clone().requires_grad_(), T.clone().requires_grad_()
    sum(Match(losses.kl)(Signals(student={"output": s}, teacher={"output": t})).values()).backward()
    assert s.grad is not None
    assert t.grad is None


def test_further_signals_are_given_by_name() -> None:
    match = Match(losses.kl, temperature=4, given={"mask": "data:valid.8"})
    assert match.needs()[-1] == ("data", "valid.8")
    signals = Signals(SIGNALS, data={"valid.8": torch.tensor([True, False])})
    assert score(match, signals) == pytest.approx({"kl": 0.388163523}, rel=1e-8)
    assert match.items({"valid.8": torch.tensor([True, False])}) == {"kl": torch.tensor(1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temprature": 4}, "kl takes .*, got 'temprature'; did you mean 'temperature'"),
        ({"beta": 0.5}, "kl takes .*, got 'beta'$"),
        ({"given": {"masks": "data:mask"}}, "got 'masks'; did you mean 'mask'"),
        ({"s": 1}, "got 's'"),
    ],
)
def test_options_are_the_loss_own(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Match(losses.kl, **options)


def test_sources_that_do_not_exist() -> None:
    with pytest.raises(LimbeckError, match=r"reads from 'techer', but the sources are .*'teacher'"):
        Distiller(mlp(), mlp(), 1.0 * Match(losses.kl, source="techer"))
    with pytest.raises(ValueError, match="must be 'source:name', got 'mask'"):
        Distiller(mlp(), mlp(), 1.0 * Match(losses.kl, given={"mask": "mask"}))


def test_data_that_did_not_come() -> None:
    distiller = Distiller(mlp(), mlp(), 1.0 * truth())
    message = r"reads 'target' from the data, got \['targets'\]; .*; did you mean 'targets'"
    with pytest.raises(LimbeckError, match=message):
        distiller(X, targets=Y)


def test_a_term_is_a_loss_by_itself() -> None:
    def energy(z: Tensor, scale: Tensor) -> Tensor:
        return scale * (z**2).mean()

    term = 2 * Term(energy, given={"z": "student:output", "scale": "data:scale"})
    step = Distiller(mlp(), {}, term)(X, scale=torch.tensor(0.5))
    torch.testing.assert_close(step.parts, {"energy": (mlp()(X) ** 2).mean().detach()})


# ---- shapes


def maps(student: tuple[int, ...], teacher: tuple[int, ...]) -> Signals:
    return Signals(
        student={"layer3": torch.ones(student)}, teacher={"blocks.2": torch.ones(teacher)}
    )


@pytest.mark.parametrize(
    ("student", "teacher"),
    [((1, 4, 8, 8), (1, 6, 9, 9)), ((1, 4, 1, 1), (1, 4, 8, 8)), ((1, 4), (1, 5))],
)
def test_b107_and_b142_shapes_that_differ_are_named_and_never_broadcast(
    student: tuple[int, ...], teacher: tuple[int, ...]
) -> None:
    objective = truth() + Match(losses.hint, "layer3", "blocks.2", source="teacher")
    signals = Signals(maps(student, teacher), data={"target": torch.tensor([0])})
    signals["student"] = {**signals["student"], "output": torch.zeros(1, 3)}
    with pytest.raises(LimbeckError) as caught:
        objective(signals)
    message = str(caught.value)
    for said in ("hint[layer3]: ", "'layer3'", "'blocks.2'", str(student), str(teacher)):
        assert said in message
    assert "use a projector" in message


def test_class_counts_that_differ_are_found_in_prepare() -> None:
    distiller = Distiller(mlp(), mlp(classes=5), 1.0 * Match(losses.kl))
    with pytest.raises(LimbeckError, match=r"kl: student 'output' \(6, 3\) against .* \(6, 5\)"):
        distiller.prepare(X)


def test_a_projector_that_cannot_bridge_is_named() -> None:
    match = Match(losses.hint, "layer3", "blocks.2", project=linear)
    message = r"hint\[layer3\]: student 'layer3' \(2, 4\) .* linear projects the last axis alone"
    with pytest.raises(LimbeckError, match=message):
        match.prepare(maps((2, 4), (2, 4, 4)))


# ---- items


@pytest.mark.parametrize(
    ("target", "items"),
    [
        (torch.tensor([1, -100, 0, -100]), 2),
        (torch.tensor([[1, -100], [-100, -100]]), 1),
        (torch.tensor([[0.7, 0.3], [0.0, 0.0]]), 1),
    ],
)
def test_withheld_labels_are_no_items(target: Tensor, items: int) -> None:
    objective = 0.5 * truth() + Match(losses.kl)
    assert {name: int(n) for name, n in objective.items({"target": target}).items()} == {
        "truth": items
    }


def test_masked_labels_are_no_items() -> None:
    data = {"target": torch.tensor([1, -100, 0]), "mask": torch.tensor([0, 1, 1])}
    assert int(truth(given={"mask": "data:mask"}).items(data)["truth"]) == 1


def test_a_distiller_counts_rows_where_the_data_does_not_say() -> None:
    distiller = Distiller(mlp(), mlp(), truth() + Match(losses.kl))
    counted = distiller.items(4, target=torch.tensor([1, -100, 0, -100]))
    assert {name: int(n) for name, n in counted.items()} == {"truth": 2, "kl": 4}
