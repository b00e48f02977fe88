"""What several students say together: rules that make one answer of their logits.

K students, N items of any number of axes, C classes; logits z (K, N, C) with the classes last,
labels y (N), weights w (K) of the students.
"""

from itertools import combinations

import torch
from torch import Tensor

from limbeck.mixing import mean_of_logits, mean_of_probabilities

GAP = 1e-7  # how far above its minimum a fit may end, in nats
STEPS, HALVINGS, SWEEPS = 50, 30, 500
TINY = 1e-30
LOWEST = -1e9  # stands for -inf; its probability is 0


def mean(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits z with softmax(z / T) = mean_k softmax(z_k / T); one student's stay as they are.

    >>> mean(torch.tensor([[0.0, 0.0], [0.0, 100.0]])).softmax(-1)
    tensor([0.2500, 0.7500])
    """
    if len(logits) == 1:
        return logits[0]
    return mixed(logits, torch.full((len(logits),), 1 / len(logits)), temperature)


def mixed(logits: Tensor, weights: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits z with softmax(z / T) = sum_k w_k softmax(z_k / T)."""
    return mean_of_probabilities(logits, beside(weights, logits), temperature)


def naive(logits: Tensor, target: Tensor) -> Tensor:
    """The logits of the student that is closest to the label, item by item (KDCL-naive).

    z_i = z_ki, k = argmin_k CE(z_ki, y_i).

    >>> z = torch.tensor([[[2.0, 0.0], [2.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> naive(z, torch.tensor([0, 1]))
    tensor([[2., 0.],
            [1., 0.]])
    """
    best = of_label(logits.log_softmax(-1), target).argmax(0, keepdim=True)
    return logits.take_along_dim(best, 0)[0]


def minlogit(logits: Tensor, target: Tensor) -> Tensor:
    """The least that any student gives a class, beside the label's (KDCL-MinLogit).

    z_c = min_k (z_kc - z_ky): the label has 0, and the answer is never further from the label than
    the best student's.

    >>> z = torch.tensor([[[2.0, 0.0, 1.0]], [[1.0, 0.0, -3.0]]])
    >>> minlogit(z, torch.tensor([0]))
    tensor([[ 0., -2., -4.]])
    """
    return (logits - of_label(logits, target)).amin(0)


def linear(logits: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k z_k; a student without weight may say -inf."""
    return mean_of_logits(logits, beside(weights, logits))


def fitted(logits: Tensor, target: Tensor) -> Tensor:
    """The weights whose `linear` combination is closest to the labels of a batch (KDCL-linear).

    argmin_w mean_i CE(sum_k w_k z_ki, y_i), w_k >= 0, sum_k w_k = 1, by Newton steps from equal
    weights, which stay where there is nothing to gain: to a duality gap of 1e-7, but at most 50
    steps. They look at their numbers, and so wait for the device.

    >>> z = torch.tensor([[[5.0, 0.0], [5.0, 0.0]], [[0.0, 5.0], [0.0, 5.0]]])
    >>> fitted(z, torch.tensor([0, 0])), fitted(z, torch.tensor([0, 1]))
    (tensor([1., 0.], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    z, y = logits.flatten(1, -2).double().clamp(min=LOWEST), target.flatten()
    w = z.new_full((len(z),), 1 / len(z))
    for _ in range(STEPS if len(y) else 0):
        g, h = derivatives(z, y, w)
        if float(w @ g - g.min()) <= GAP:
            break
        w = descended(z, y, w, g, least(g, h, w) - w)
    return w


def descended(z: Tensor, y: Tensor, w: Tensor, g: Tensor, d: Tensor) -> Tensor:
    """w moved along d by the first of 1, 1/2, 1/4, ... that is worth it (Armijo's rule)."""
    before, slope, step = error(z, y, w), g @ d, 1.0
    for _ in range(HALVINGS):
        if error(z, y, w + step * d) <= before + 0.1 * step * slope:
            break
        step /= 2
    return w + step * d


def error(z: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """mean_i CE(sum_k w_k z_ki, y_i) of logits (K, N, C)."""
    m = torch.einsum("k,knc->nc", w, z)
    return (m.logsumexp(-1) - of_label(m, y)[:, 0]).mean()


def derivatives(z: Tensor, y: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (K) and Hessian (K, K) of `error`."""
    p = torch.einsum("k,knc->nc", w, z).softmax(-1)
    centred = z - torch.einsum("knc,nc->kn", z, p)[..., None]
    gradient = -of_label(centred, y)[..., 0].mean(1)
    return gradient, torch.einsum("inc,nc,jnc->ij", centred, p, centred) / len(y)


def covariance(logits: Tensor, target: Tensor) -> Tensor:
    """C_jk = mean_i <p_ji - onehot(y_i), p_ki - onehot(y_i)>: who errs, and with whom (K, K).

    >>> certain = 100 * torch.eye(2)[None].repeat(2, 1, 1)
    >>> covariance(certain, torch.tensor([0, 0]))
    tensor([[1., 1.],
            [1., 1.]], dtype=torch.float64)
    """
    z, y = logits.flatten(1, -2).double(), target.flatten()
    errors = z.softmax(-1) - torch.nn.functional.one_hot(y, z.shape[-1])
    return torch.einsum("inc,jnc->ij", errors, errors) / max(len(y), 1)


def balanced(covariance: Tensor) -> Tensor:
    """The weights whose mixture errs least (KDCL-general): argmin_w w' C w, w >= 0, sum w = 1.

    Where no weight is at 0 that is w_k = sum_j C^-1_kj / sum_ij C^-1_ij.

    >>> balanced(torch.tensor([[1.0, 0.0], [0.0, 3.0]]))
    tensor([0.7500, 0.2500])
    """
    w = torch.full_like(covariance[0], 1 / len(covariance))
    return least(2 * covariance @ w, 2 * covariance, w)


def least(g: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """argmin_v g'(v - w) + (v - w)' H (v - w) / 2 over v >= 0, sum v = 1, H positive semidefinite.

    Weight moves between two students at a time, each time as far as is best.
    """
    slope, bend, v = g.tolist(), h.tolist(), w.tolist()
    for _ in range(SWEEPS):
        moved = 0.0
        for i, j in combinations(range(len(v)), 2):
            curve = bend[i][i] + bend[j][j] - 2 * bend[i][j]
            shift = (slope[j] - slope[i]) / max(curve, TINY)
            shift = max(-v[i], min(v[j], shift))
            v[i], v[j], moved = v[i] + shift, v[j] - shift, max(moved, abs(shift))
            slope = [s + shift * (a - b) for s, a, b in zip(slope, bend[i], bend[j], strict=True)]
        if moved <= 1e-12:
            break
    return torch.tensor(v, dtype=w.dtype, device=w.device)


def beside(weights: Tensor, logits: Tensor) -> Tensor:
    """Weights (K) in the shape and type that go with logits (K, ..., C)."""
    return weights.to(logits).view(-1, *[1] * (logits.ndim - 1))


def of_label(x: Tensor, target: Tensor) -> Tensor:
    """x of each item's label, with one class (..., 1)."""
    return x.take_along_dim(target.expand(x.shape[:-1])[..., None], -1)
