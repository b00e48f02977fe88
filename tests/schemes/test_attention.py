"""OKDDip: peers that weigh one another, and their leader."""

from typing import Any

import pytest
import torch
from tests.networks import batch, gradients, mlp
from torch import Tensor, nn

from limbeck import Match, Mutual, losses, truth
from limbeck.errors import LimbeckError
from limbeck.schedules import Linear
from limbeck.schemes import Attention, okddip
from limbeck.schemes.attention import attentive

X, Y = batch()


def make(**options: Any) -> Mutual:
    nets = {name: mlp(8, seed=k) for k, name in enumerate(["a", "b", "c", "leader"])}
    torch.manual_seed(9)
    return okddip(nets, leader="leader", features="body", width=8, **options)


def of_labels(mutual: Mutual, taught: bool) -> dict[str, float]:
    """Shares that leave the labels' parts alone, or those of what is taught."""
    return {name: float(("/kl" in name) == taught) for name in mutual.items(6, target=Y)}


def test_targets_are_the_papers() -> None:
    mutual = make(temperature=2, weight=0.5)
    step = mutual(X, target=Y)
    nets, attention = mutual.students, mutual.teaching
    h = {n: nets[n].body(nets[n].stem(X).relu()) for n in "abc"}
    z = {name: net(X).detach() for name, net in nets.items()}
    for a in "abc":
        scores = [(attention.query(h[a]) * attention.key(h[b])).sum(1) for b in "abc"]
        shares = torch.stack(scores, 1).softmax(1)
        target = torch.stack([shares[:, k : k + 1] * z[b] for k, b in enumerate("abc")]).sum(0)
        expected = 0.5 * losses.kl(z[a], target, temperature=2)
        torch.testing.assert_close(step.parts[f"{a}/kl"], expected.detach())
    mean = torch.stack([z[b] for b in "abc"]).mean(0)
    expected = 0.5 * losses.kl(z["leader"], mean, temperature=2)
    torch.testing.assert_close(step.parts["leader/kl"], expected)


def test_the_attention_learns_from_its_targets_and_from_nothing_else() -> None:
    mutual = make()
    mutual(X, target=Y, share=of_labels(mutual, taught=True)).loss.backward()
    learned = gradients(mutual.teaching)
    assert set(learned) == {"query.weight", "key.weight"}
    assert all(gradient.any() for gradient in learned.values())
    mutual.zero_grad()
    mutual(X, target=Y, share=of_labels(mutual, taught=False)).loss.backward()
    assert not any(gradient.any() for gradient in gradients(mutual.teaching).values())
    assert set(mutual.teaching.parameters()) <= set(mutual.parameters())


@pytest.mark.parametrize("taught", ["a", "leader"])
def test_peers_get_no_gradient_of_what_they_teach(taught: str) -> None:
    mutual = make()
    share = {name: float(name == f"{taught}/kl") for name in of_labels(mutual, taught=True)}
    mutual(X, target=Y, share=share).loss.backward()
    for name, student in mutual.students.items():
        moved = any(bool(g.any()) for g in gradients(student).values())
        assert moved == (name == taught)


def test_twins_have_nothing_to_teach() -> None:
    nets = {name: mlp(8) for name in "abcd"}
    parts = okddip(nets, leader="d", features="body", width=8)(X, target=Y).parts
    assert [float(parts[f"{n}/kl"]) for n in "abcd"] == pytest.approx([0] * 4, abs=1e-6)


@pytest.mark.parametrize(("shape", "axes"), [((6, 8, 2, 3), (2, 3)), ((6, 5, 8), (1,))])
def test_maps_and_tokens_are_averaged(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    attention = Attention("c", "h", 8)
    h = torch.randn(shape)
    logits = {name: torch.randn(6, 3) for name in "abc"}

    def targets(features: Tensor) -> dict[str, Tensor]:
        said = {n: {"output": z, "h": features + ord(n)} for n, z in logits.items()}
        return attention(said, "output", {})

    for name, target in targets(h).items():
        torch.testing.assert_close(target, targets(h.mean(axes))[name])


def test_attention_is_in_single_precision_whatever_autocast_says() -> None:
    mutual = make()
    said = {n: {"output": torch.randn(6, 3), "body": torch.randn(6, 8)} for n in mutual.names}
    exact = mutual.answers(said, {})
    with torch.autocast("cpu", torch.bfloat16):
        answers = mutual.answers(said, {})
    assert all(torch.equal(answers[name]["output"], exact[name]["output"]) for name in said)


def test_it_learns_under_autocast_and_moves_to_another_precision() -> None:
    mutual = make()
    with torch.autocast("cpu", torch.bfloat16):
        step = mutual(X, target=Y)
    assert step.loss.dtype == torch.float32
    step.loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(mutual).values())
    assert mutual.double()(X.double(), target=Y).loss.dtype == torch.float64


def test_an_attentive_objective_is_the_papers() -> None:
    """The same loss and the same gradients, of the attention too, as by a term of it."""
    terms = make(temperature=2, weight=0.5)
    matched = truth() + 0.5 * Match(losses.kl, source="peers", temperature=2)
    teach = Attention("leader", "body", 8)
    teach.load_state_dict(terms.teaching.state_dict())
    nets = {name: mlp(8, seed=k) for k, name in enumerate(["a", "b", "c", "leader"])}
    mutual = Mutual(nets, attentive(matched), teach=teach)
    steps = [group(X, target=Y) for group in (terms, mutual)]
    for step in steps:
        step.loss.backward()
    assert steps[0].parts == steps[1].parts
    learned = [gradients(group.teaching) | gradients(nn.ModuleDict(group.students))
               for group in (terms, mutual)]  # fmt: skip
    assert all(torch.equal(learned[0][name], learned[1][name]) for name in learned[0])
    assert bool(learned[1]["query.weight"].any())


def test_what_attentive_leaves_alone() -> None:
    objective = attentive(truth() + Match(losses.kl) + Match(losses.kl, source="peers"))
    kinds = [type(term).__name__ for _, term in objective.weighted()]
    assert kinds == ["Truth", "Match", "Attentive"]


def test_a_temperature_may_follow_a_schedule() -> None:
    soft = Match(losses.kl, source="peers", temperature=Linear(4, 2))
    nets = {name: mlp(8, seed=k) for k, name in enumerate("abc")}
    mutual = Mutual(nets, attentive(soft), teach=Attention("c", "body", 8))
    values = []
    for progress in (0.0, 1.0):
        mutual.advance(progress)
        values.append(float(mutual(X, target=Y).parts["c/kl"]))
    z = {name: net(X).detach() for name, net in nets.items()}
    mean = (z["a"] + z["b"]) / 2
    expected = [float(losses.kl(z["c"], mean, temperature=t)) for t in (4, 2)]
    assert values == pytest.approx(expected)


def test_the_leader_needs_no_features_of_that_name() -> None:
    nets = {"a": mlp(8), "b": mlp(8, seed=1), "c": nn.Sequential(nn.Linear(4, 3))}
    mutual = okddip(nets, leader="c", features="body", width=8)
    assert float(mutual(X, target=Y).parts["c/kl"]) > 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LimbeckError, match=r"a leader and two peers or more, got leader='c' of"):
        okddip({"a": mlp(), "b": mlp(seed=1)}, leader="c", features="body", width=8)
    narrow = {"a": mlp(8), "b": mlp(6), "c": mlp(8)}
    mutual = okddip(narrow, leader="c", features="body", width=8)
    with pytest.raises(LimbeckError, match="features 'body' of 'b' are 6 wide, but width is 8"):
        mutual.prepare(X, target=Y)
    said = {name: {"output": torch.zeros(2, 3), "h": torch.zeros(2, 8)} for name in "abc"}
    with pytest.raises(LimbeckError, match="leader must be one of"):
        Attention("d", "h", 8)(said, "output", {})
