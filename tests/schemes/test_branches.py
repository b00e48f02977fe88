"""ONE: a trunk, branches, and the ensemble that teaches them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.networks import batch, gradients, hooks
from torch import Tensor, nn

from limbeck import Distiller
from limbeck.errors import LimbeckError
from limbeck.schedules import Linear
from limbeck.schemes import Branches, gate, one
from limbeck.schemes.branches import gated

X, Y = batch()


def make(branches: int = 3) -> Branches:
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(4, 8), nn.ReLU())
    return Branches(trunk, [nn.Linear(8, 3) for _ in range(branches)], nn.Linear(8, branches))


def kl(s: Tensor, t: Tensor, temperature: float) -> Tensor:
    log_q, log_p = (s / temperature).log_softmax(-1), (t.detach() / temperature).log_softmax(-1)
    return temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def test_the_loss_is_the_papers() -> None:
    net = make()
    step = Distiller(net, {}, one(3, temperature=2, weight=0.5))(X, target=Y)
    features = net.trunk(X)
    z = [branch(features) for branch in net.branches]
    shares = net.gate(features).softmax(1)
    ensemble = torch.stack([shares[:, k : k + 1] * z[k] for k in range(3)]).sum(0)
    hard = F.cross_entropy(ensemble, Y) + torch.stack([F.cross_entropy(s, Y) for s in z]).sum()
    soft = torch.stack([kl(s, ensemble, 2) for s in z]).sum()
    torch.testing.assert_close(step.loss, hard + 0.5 * soft)
    torch.testing.assert_close(step.output["logits"], ensemble)


def test_the_gate_learns_from_the_labels_alone() -> None:
    net = make()
    distiller = Distiller(net, {}, one(3))
    share = {name: float(name.startswith("kl")) for name in distiller.items(6, target=Y)}
    distiller(X, target=Y, share=share).loss.backward()
    assert not any(gradient.any() for gradient in gradients(net.gate).values())
    assert all(gradient.any() for gradient in gradients(net.branches).values())
    distiller.zero_grad()
    share = {name: float(name == "truth") for name in share}
    distiller(X, target=Y, share=share).loss.backward()
    assert all(gradient.any() for gradient in gradients(net.gate).values())


def test_branches_that_agree_have_nothing_to_learn_from_their_ensemble() -> None:
    net = make()
    for branch in net.branches:
        branch.load_state_dict(net.branches[0].state_dict())
    parts = Distiller(net, {}, one(3))(X, target=Y).parts
    assert [float(parts[f"kl[{k}]"]) for k in range(3)] == pytest.approx([0, 0, 0], abs=1e-6)


def test_the_weight_may_follow_a_schedule() -> None:
    distiller = Distiller(make(), {}, one(3, weight=Linear(0, 1)))
    distiller.advance(0.0)
    assert distiller(X, target=Y).parts["kl[1]"] == 0
    distiller.advance(1.0)
    assert distiller(X, target=Y).parts["kl[1]"] > 0


def test_a_branch_ships_as_a_plain_model() -> None:
    net = make()
    distiller = Distiller(net, {}, one(3))
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    before = copy.deepcopy(net.single(1).state_dict())
    distiller(X, target=Y).loss.backward()
    optimizer.step()
    single = net.single(1)
    assert hooks(single) == 0
    assert torch.equal(single(X), net(X)["branches"][1])
    assert not any(torch.equal(value, before[name]) for name, value in single.state_dict().items())
    fresh = nn.Sequential(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 3))
    fresh.load_state_dict(single.state_dict(), strict=True)
    assert torch.equal(fresh(X), single(X))


def test_the_papers_gate_scores_maps() -> None:
    scores = gate(4, 3)(torch.randn(5, 4, 6, 6))
    assert scores.shape == (5, 3)
    assert bool((scores >= 0).all())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LimbeckError, match="at least two branches, got 1"):
        make(1)
    with pytest.raises(LimbeckError, match=r"must score 2 branches, got scores \(6, 3\)"):
        gated([torch.zeros(6, 3)] * 2, torch.zeros(6, 3))
