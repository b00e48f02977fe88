"""How much each of several teachers is heard.

K teachers, C classes; t are their logits (K, ..., C), the dots are items. Weights are at least 0,
sum to 1 over the teachers and carry no gradient; a teacher alone has weight 1.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.ranks import gathered

TOLERANCE, MOST = 1e-12, 10_000  # of `flattest`


def by_entropy(t: Tensor) -> Tensor:
    """Of each item (K, ...): w_k = (1 - H_k / sum_j H_j) / (K - 1), H the entropy of softmax(t).

    The surer a teacher, the more it is heard; where all are sure, equally.

    >>> t = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    >>> [round(float(w), 4) for w in by_entropy(t)]
    [0.5807, 0.4193]
    """
    h = torch.special.entr(t.double().softmax(-1)).sum(-1)  # in single precision many would be 0
    total = h.sum(0)
    return others(torch.where(total > 0, h / total, 1 / len(t)))


def by_labels(t: Tensor, target: Tensor) -> Tensor:
    """Of each item (K, ...): w_k = (1 - softmax_k(CE_k)) / (K - 1), CE against its label.

    The less a teacher errs, the more it is heard; where there is no label, all equally.

    >>> t = torch.tensor([[0.8, 0.2], [0.5, 0.5]]).log()
    >>> [round(float(w), 4) for w in by_labels(t, torch.tensor(0))]
    [0.6154, 0.3846]
    """
    classes = t.shape[-1]
    y = target.flatten() if not target.is_floating_point() else target.reshape(-1, classes).to(t)
    rows = [F.cross_entropy(z.reshape(-1, classes), y, reduction="none") for z in t]
    ce = torch.stack(rows).view(t.shape[:-1]).clamp(max=torch.finfo(t.dtype).max)
    return others(ce.softmax(0))


def others(share: Tensor) -> Tensor:
    """What is left of 1 for each teacher, as shares of 1 (K, ...)."""
    return (1 - share) / (len(share) - 1) if len(share) > 1 else torch.ones_like(share)


def by_gradients(t: Tensor, s: Tensor, *, temperature: float, limit: float) -> Tensor:
    """Of the whole batch (K,): `flattest` of the teachers' mean gradients in the student's logits.

    The gradient of the KL with teacher k, averaged over items, is a vector (C,) proportional to
    mean_i softmax(s_i / T) - softmax(t_ki / T). In training it is that of all ranks. The products
    come to the CPU, for which a GPU is waited for.

    >>> s, t = torch.zeros(1, 2), torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]]])
    >>> [round(float(w), 4) for w in by_gradients(t, s, temperature=1.0, limit=1.0)]
    [0.6224, 0.3776]
    """
    gaps = (s.to(t) / temperature).softmax(-1) - (t / temperature).softmax(-1)
    g = gaps.double().flatten(1, -2).sum(1)
    if torch.is_grad_enabled():
        g = gathered(g[None]).sum(0)
    return flattest(g @ g.T, limit)


def flattest(products: Tensor, limit: float) -> Tensor:
    """a with the least a' G a, where sum_k a_k = 1 and 0 <= a_k <= max(limit, 1 / K).

    G (K, K) are `products` of vectors: a makes their sum as short as it can be. From equal weights,
    the pair with the largest difference of slopes G a exchanges as much weight as is best for it,
    until that difference is at most 1e-12 of the largest product: a' G a is then within twice that
    of the least. For two teachers it is one exchange; there are 10,000 at most. Where several a are
    best, one of them.

    >>> [flattest(torch.diag(torch.tensor([1.0, 3.0])), c).tolist() for c in (0.5, 1.0)]
    [[0.5, 0.5], [0.75, 0.25]]
    """
    g: list[list[float]] = products.tolist()
    teachers = range(len(g))
    limit, a = max(limit, 1 / len(g)), [1 / len(g)] * len(g)
    for _ in range(MOST):
        slope = [sum(x * y for x, y in zip(row, a, strict=True)) for row in g]
        i = max((k for k in teachers if a[k] > 0), key=slope.__getitem__)
        j = min((k for k in teachers if a[k] < limit), key=slope.__getitem__, default=i)
        gain, bend = slope[i] - slope[j], g[i][i] - 2 * g[i][j] + g[j][j]
        if gain <= TOLERANCE * max(g[k][k] for k in teachers):
            break
        step = min(a[i], limit - a[j], gain / bend if bend > 0 else limit)
        a[i], a[j] = a[i] - step, limit if step == limit - a[j] else a[j] + step
    return products.new_tensor(a)
