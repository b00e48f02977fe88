"""Feature methods that learn which layers to pair, and orthogonal maps, are what they say."""

from collections.abc import Callable
from typing import TypeVar

import pytest
import torch
from tests.methods.test_feature import X, Y, build, net, train
from torch import nn

from limbeck import Distiller, losses
from limbeck.errors import LimbeckError
from limbeck.methods.calibration import SemCKD
from limbeck.methods.queries import AFD
from limbeck.objective import Objective
from limbeck.signals import Signals

each = pytest.mark.parametrize
Kind = TypeVar("Kind", bound=Objective)


def evaluated(name: str, kind: type[Kind]) -> tuple[Kind, Signals]:
    """The objective by itself, in eval mode, and the signals that it reads."""
    distiller, _ = build(name)
    (objective,) = (m for m in distiller.objective.modules() if isinstance(m, kind))
    return objective.eval(), distiller.gather(X, {"target": Y})[1]


def test_afd_is_its_formula() -> None:
    objective, found = evaluated("afd", AFD)
    s, t = objective.maps(found)
    assert objective.queries is not None
    shares = objective.queries(*([x.mean((2, 3)) for x in side] for side in (s, t)))
    assert shares.shape == (4, 3, 2)
    torch.testing.assert_close(shares.sum(-1), torch.ones(4, 3))
    expected = sum(
        losses.afd(s[j][b, None], t[i][b, None]) * shares[b, i, j] / (4 * t[i][0, 0].numel())
        for b in range(4)
        for i in range(3)
        for j in range(2)
    )
    torch.testing.assert_close(objective(found)["afd"], expected)


def test_semckd_is_its_formula_for_any_smaller_batch() -> None:
    objective, found = evaluated("semckd", SemCKD)
    s, t = objective.maps(found)
    shares = objective.shares(s, t)
    torch.testing.assert_close(shares.sum(-1), torch.ones(4, 2))
    expected = 0.0
    for j in range(2):
        for i in range(2):
            size = min(s[j].shape[2], t[i].shape[2])
            ours, theirs = (nn.functional.adaptive_avg_pool2d(x, size) for x in (s[j], t[i]))
            ours = objective.regressors[2 * j + i](ours)
            errors = (ours - theirs).square().mean((1, 2, 3))
            expected = expected + (shares[:, j, i] * errors).mean() / 2
    torch.testing.assert_close(objective(found)["semckd"], expected)
    few = Signals({side: {k: x[:3] for k, x in found[side].items()} for side in found})
    assert objective(few)["semckd"].isfinite()


def test_semckd_refuses_a_larger_batch() -> None:
    distiller = Distiller(net(4, 0), net(6, 1), 1.0 * SemCKD(["act", "deep"], batch=3))
    with pytest.raises(LimbeckError, match=r"at most 3 samples, got 4; give batch=4"):
        distiller.prepare(X)


@each(
    ("make", "message"),
    [
        (lambda: AFD("deep"), r"afd reads several layers, got 'deep' .* give lists of names"),
        (lambda: SemCKD(["deep"], "deep"), "semckd reads several layers"),
    ],
)
def test_one_layer_is_refused(make: Callable[[], Objective], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        make()


@each("objective", [AFD, SemCKD])
def test_what_is_no_map_is_refused(objective: Callable[..., Objective]) -> None:
    distiller = Distiller(net(4, 0), net(6, 1), 1.0 * objective(["deep"], ["tokens"]))
    with pytest.raises(LimbeckError, match=r"'tokens' must be a map .* got \(4, 64, 6\)"):
        distiller.prepare(X)


@each(("name", "tall"), [("vkd", True), ("vkd to fewer", False)])
def test_an_orthogonal_map_stays_orthogonal(name: str, tall: bool) -> None:
    distiller, _ = build(name)
    (match,) = (m for m in distiller.matches if m.loss is losses.vkd)
    before = match.projector.linear.weight.detach().clone()
    train(distiller, 5)
    weight = match.projector.linear.weight.detach()
    assert not torch.allclose(weight, before, atol=1e-5)
    inner = weight.T @ weight if tall else weight @ weight.T
    torch.testing.assert_close(inner, torch.eye(len(inner)), rtol=0, atol=1e-5)
