"""Rules that combine the answers of peers, against what they promise."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.schemes import peers


def logits(students: int = 3, rows: int = 7, classes: int = 5, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(students)
    return scale * torch.randn(students, rows, classes, generator=generator, dtype=torch.float64)


def labels(rows: int = 7, classes: int = 5) -> Tensor:
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(9))


def simplex(students: int, parts: int = 60) -> list[Tensor]:
    """A grid of weights that sum to 1."""
    counts = itertools.product(range(parts + 1), repeat=students - 1)
    grid = [(*c, parts - sum(c)) for c in counts if sum(c) <= parts]
    return [torch.tensor(c, dtype=torch.float64) / parts for c in grid]


def test_the_mean_is_that_of_probabilities_at_the_temperature() -> None:
    z = logits()
    expected = (z / 3).softmax(-1).mean(0)
    torch.testing.assert_close((peers.mean(z, 3.0) / 3).softmax(-1), expected)
    assert torch.equal(peers.mean(z[:1], 3.0), z[0])


def test_naive_takes_the_student_with_the_least_cross_entropy_row_by_row() -> None:
    z, y = logits(), labels()
    for row in range(7):
        errors = [float(F.cross_entropy(z[k, row], y[row])) for k in range(3)]
        assert torch.equal(peers.naive(z, y)[row], z[errors.index(min(errors)), row])


def test_minlogit_is_never_further_from_the_label_than_the_best_student() -> None:
    z, y = logits(), labels()
    answer = peers.minlogit(z, y)
    each = torch.stack([F.cross_entropy(s, y, reduction="none") for s in z])
    assert (F.cross_entropy(answer, y, reduction="none") <= each.amin(0)).all()
    assert torch.equal(answer.gather(1, y[:, None]), torch.zeros(7, 1, dtype=torch.float64))


@pytest.mark.parametrize("scale", [0.5, 5.0, 100.0])
@pytest.mark.parametrize("students", [2, 3])
def test_the_fit_is_as_good_as_the_best_of_a_fine_grid(students: int, scale: float) -> None:
    z, y = logits(students, scale=scale), labels()
    w = peers.fitted(z, y)
    best = min(float(F.cross_entropy(peers.linear(z, v), y)) for v in simplex(students))
    assert float(F.cross_entropy(peers.linear(z, w), y)) <= best + peers.GAP
    assert bool((w >= 0).all())
    assert float(w.sum()) == pytest.approx(1)


def test_a_fit_of_many_students_has_no_gap() -> None:
    z, y = logits(8, rows=200), labels(200)
    w = peers.fitted(z, y)
    g, _ = peers.derivatives(z, y, w)
    assert float(w @ g - g.min()) <= peers.GAP
    assert float(w.max()) < 1


def test_derivatives_are_those_of_the_error() -> None:
    z, y = logits(), labels()
    w = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(peers.error(z, y, w), w)
    bend = torch.autograd.functional.hessian(lambda v: peers.error(z, y, v), w.detach())
    g, h = peers.derivatives(z, y, w.detach())
    torch.testing.assert_close(g, expected)
    torch.testing.assert_close(h, bend)


def test_what_cannot_be_told_apart_weighs_the_same() -> None:
    z, y = logits(1).expand(3, -1, -1), labels()
    third = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert torch.equal(peers.fitted(z, y), third)
    assert torch.equal(peers.balanced(peers.covariance(z, y)), third)
    assert torch.equal(peers.fitted(z[:, :0], y[:0]), third)


def test_classes_that_are_masked_out_stay_so() -> None:
    z, y = logits(), labels().clamp(max=3)
    masked = z.clone()
    masked[..., 4] = -math.inf
    w = peers.fitted(masked, y)
    torch.testing.assert_close(w, peers.fitted(z[..., :4], y))
    for answer in (
        peers.linear(masked, w),
        peers.linear(masked, torch.tensor([1.0, 0.0, 0.0])),
        peers.naive(masked, y),
        peers.minlogit(masked, y),
        peers.mean(masked),
        peers.mixed(masked, torch.tensor([0.5, 0.5, 0.0])),
    ):
        assert answer[:, :4].isfinite().all()
        assert (answer[:, 4] == -math.inf).all()


def test_the_covariance_is_that_of_the_errors() -> None:
    z, y = logits(), labels()
    errors = z.softmax(-1) - F.one_hot(y, 5)
    pairs = [[(errors[j] * errors[k]).sum(-1).mean() for k in range(3)] for j in range(3)]
    torch.testing.assert_close(
        peers.covariance(z, y), torch.stack([torch.stack(row) for row in pairs])
    )


def test_weights_inside_are_those_of_the_paper() -> None:
    c = torch.tensor([[2.0, 0.3, 0.1], [0.3, 1.0, 0.2], [0.1, 0.2, 1.5]], dtype=torch.float64)
    inverse = c.inverse()
    torch.testing.assert_close(peers.balanced(c), inverse.sum(1) / inverse.sum())


def test_a_student_that_only_repeats_anothers_errors_weighs_nothing() -> None:
    c = torch.tensor([[1.0, 1.2, 0.0], [1.2, 2.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    assert float((c.inverse().sum(1) / c.inverse().sum()).min()) < 0
    w = peers.balanced(c)
    assert float(w @ c @ w) <= min(float(v @ c @ v) for v in simplex(3)) + 1e-12
    assert w.tolist() == pytest.approx([0.5, 0.0, 0.5])
