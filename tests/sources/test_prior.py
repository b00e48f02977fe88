"""The hand-made teacher."""

import math

import pytest
import torch
from tests.networks import batch, gradients, mlp
from torch.nn import functional as F

from limbeck import Distiller, Match, Objective, Prior, losses, truth
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals

each = pytest.mark.parametrize
X, Y = batch()


def said(prior: Prior, target: torch.Tensor) -> torch.Tensor:
    return prior(Batch(None, {"target": target}), Signals(), ["output"])["output"]


def taught(objective: Objective, prior: Prior) -> Distiller:
    made = Distiller(mlp(), {"prior": prior}, objective)
    made(X, target=Y).loss.backward()
    return made


@each("shape", [(6,), (2, 3)])
def test_the_label_has_its_probability_and_the_others_share_the_rest(
    shape: tuple[int, ...],
) -> None:
    p = said(Prior(3, 0.8), Y.view(shape)).softmax(-1)
    expected = 0.1 + 0.7 * F.one_hot(Y.view(shape), 3)
    torch.testing.assert_close(p, expected.float(), rtol=0, atol=1e-6)


def test_what_is_unknown_is_even() -> None:
    p = said(Prior(4), torch.tensor([-100, 1])).softmax(-1)
    torch.testing.assert_close(p, said(Prior(4), torch.tensor([-100, 1])).exp())
    torch.testing.assert_close(p[0], torch.full((4,), 0.25))
    torch.testing.assert_close(p[1], torch.tensor([0.1 / 3, 0.9, 0.1 / 3, 0.1 / 3]))


def test_maps_have_their_classes_on_an_axis_of_their_own() -> None:
    labels = torch.tensor([[[0, 2], [-100, 1]], [[1, 1], [2, 0]]])
    batch = Batch(None, {"target": labels})
    found = Prior(3, 0.8, axis=1)(batch, Signals(), ["output"])["output"]
    assert found.shape == (2, 3, 2, 2)
    for b, y, x in torch.cartesian_prod(*map(torch.arange, (2, 2, 2))).tolist():
        alone = said(Prior(3, 0.8), labels[b, y, x].view(1))
        assert torch.equal(found[b, :, y, x], alone[0])


@each("epsilon", [0.1, 0.4])
def test_label_smoothing_is_the_special_case(epsilon: float) -> None:
    """The loss less the entropy of the teacher, which is constant; so the gradient is the same."""
    correct = 1 - epsilon + epsilon / 3
    made = taught(1.0 * Match(losses.kl, source="prior"), Prior(3, correct))
    twin = taught(1.0 * truth(label_smoothing=epsilon), Prior(3))
    p = [correct, epsilon / 3, epsilon / 3]
    entropy = -sum(q * math.log(q) for q in p)
    losses_of = [float(d(X, target=Y).loss.detach()) for d in (made, twin)]
    assert losses_of[0] + entropy == pytest.approx(losses_of[1], rel=1e-6)
    for name, gradient in gradients(twin.student).items():
        torch.testing.assert_close(gradients(made.student)[name], gradient, rtol=0, atol=1e-7)
        assert bool(gradient.any())


def test_the_virtual_teacher_of_the_tfkd_code_is_a_prior_close_to_even() -> None:
    """v = 0.99 and 0.005 as logits at T = 20: what its softmax says of the label is `correct`."""
    v = torch.tensor([0.99, 0.005, 0.005], dtype=torch.float64)
    correct = float((v / 20).softmax(0)[0])
    made = taught(1.0 * Match(losses.kl, source="prior"), Prior(3, correct))
    logits = made.student(X)
    expected = losses.tfkd_reg(logits, Y, correct=0.99, temperature=20)
    torch.testing.assert_close(made(X, target=Y).loss, expected, rtol=1e-4, atol=1e-7)


def test_a_temperature_softens_it_as_any_teacher() -> None:
    made = taught(1.0 * Match(losses.kl, source="prior", temperature=20), Prior(3, 0.99))
    v = torch.tensor([0.99, 0.005, 0.005]).log()
    rows = torch.stack([v.roll(int(y)) for y in Y])
    expected = losses.kl(made.student(X), rows, temperature=20)
    torch.testing.assert_close(made(X, target=Y).loss, expected)


@each(
    ("target", "message"),
    [
        (torch.tensor([0, 3]), r"target must be in 0\.\.2, got \[0, 3\]"),
        (torch.tensor([-1]), r"target must be in 0\.\.2, got \[-1\]"),
        (torch.tensor([[0.3, 0.7, 0.0]]), "a prior needs class indices as target"),
    ],
)
def test_labels_that_are_none(target: torch.Tensor, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        said(Prior(3), target)


@each(("classes", "correct"), [(1, 0.9), (3, 0.0), (3, 1.0), (3, 1.2)])
def test_priors_that_are_none(classes: int, correct: float) -> None:
    with pytest.raises(LimbeckError, match="two classes or more and a probability between"):
        Prior(classes, correct)


def test_a_prior_needs_labels() -> None:
    made = Distiller(mlp(), {"prior": Prior(3)}, 1.0 * Match(losses.kl, source="prior"))
    with pytest.raises(LimbeckError, match=r"a prior needs \['target'\] in the data; pass target="):
        made(X)
