"""What one writes by hand in PyTorch where limbeck has a loss: the same maths, no care for edges.

A row of `TWINS` is a loss, its plain expression, and what both are called with: the array of the
student, which takes the gradient, then the rest. A family joins by rows of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck import losses

BATCH, CLASSES, T = 64, 100, 4.0
SAMPLES, NEGATIVES, WIDTH, TAU = 50_000, 4096, 128, 0.07

Loss = Callable[..., Tensor]


class Twin(NamedTuple):
    """A loss and its plain expression."""

    loss: Loss
    plain: Loss
    draw: Callable[..., tuple[Tensor, ...]]


def normal(*shapes: tuple[int, ...]) -> Callable[[torch.Generator], tuple[Tensor, ...]]:
    """Draws arrays of these shapes for a batch."""
    return lambda g: tuple(torch.randn(BATCH, *shape, generator=g) for shape in shapes)


def logits(g: torch.Generator, batch: int = BATCH, classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    s, t = torch.randn(2, batch, classes, generator=g)
    return s, t


def labelled(
    g: torch.Generator, batch: int = BATCH, classes: int = CLASSES
) -> tuple[Tensor, Tensor, Tensor]:
    return *logits(g, batch, classes), torch.randint(classes, (batch,), generator=g)


def remembered(g: torch.Generator) -> tuple[Tensor, ...]:
    """Embeddings, two memories, and each sample's row before its negatives."""
    s, t = torch.randn(2, BATCH, WIDTH, generator=g)
    memories = F.normalize(torch.randn(2, SAMPLES, WIDTH, generator=g), dim=-1)
    return s, t, *memories, torch.randint(SAMPLES, (BATCH, 1 + NEGATIVES), generator=g)


# ---- logits and features


def kl(s: Tensor, t: Tensor) -> Tensor:
    log_q, log_p = F.log_softmax(s / T, -1), F.log_softmax(t / T, -1)
    return F.kl_div(log_q, log_p, log_target=True, reduction="batchmean") * T**2


def reverse_kl(s: Tensor, t: Tensor) -> Tensor:
    return kl(t, s)


def dkd(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    label = F.one_hot(target, s.shape[1]).bool()
    q, p = (F.softmax(x / T, 1) for x in (s, t))
    two_q, two_p = (torch.stack([(x * label).sum(1), (x * ~label).sum(1)], 1) for x in (q, p))
    target_part = F.kl_div(two_q.log(), two_p, reduction="batchmean")
    log_q, log_p = (F.log_softmax(x / T - 1000 * label, 1) for x in (s, t))
    other_part = F.kl_div(log_q, log_p, log_target=True, reduction="batchmean")
    return (target_part + 8 * other_part) * T**2


def attention(s: Tensor, t: Tensor) -> Tensor:
    q_s, q_t = (F.normalize(x.pow(2).mean(1).flatten(1)) for x in (s, t))
    return (q_s - q_t).pow(2).sum(1).mean()


# ---- relations


def distances(x: Tensor) -> Tensor:
    square = x.pow(2).sum(1)
    d = (square[:, None] + square - 2 * x @ x.T).clamp(min=1e-12).sqrt()
    return d * (1 - torch.eye(len(x)))


def rkd_distance(s: Tensor, t: Tensor) -> Tensor:
    d_s, d_t = distances(s), distances(t)
    d_s, d_t = d_s / d_s[d_s > 0].mean(), d_t / d_t[d_t > 0].mean()
    return F.smooth_l1_loss(d_s, d_t) * len(s) / (len(s) - 1)


def rkd_angle(s: Tensor, t: Tensor) -> Tensor:
    """As the authors: the directions from each sample to each, and their products."""

    def cosines(x: Tensor) -> Tensor:
        unit = F.normalize(x[None] - x[:, None], dim=2)
        return torch.bmm(unit, unit.transpose(1, 2))

    return F.smooth_l1_loss(cosines(s), cosines(t)) * BATCH**2 / ((BATCH - 1) * (BATCH - 2))


def rkd_angle_by_products(s: Tensor, t: Tensor) -> Tensor:
    """The fastest that native operations allow: all directions' products from those of samples."""

    def cosines(x: Tensor) -> Tensor:
        products = x @ x.T
        square = products.diagonal()
        d = (square[:, None] + square - 2 * products).clamp(min=1e-12).rsqrt()
        d = d * (1 - torch.eye(BATCH))
        half = products - square[:, None] / 2
        return (products - half[:, :, None] - half[:, None, :]) * (d[:, :, None] * d[:, None, :])

    return F.smooth_l1_loss(cosines(s), cosines(t)) * BATCH**2 / ((BATCH - 1) * (BATCH - 2))


def sp(s: Tensor, t: Tensor) -> Tensor:
    g_s, g_t = (F.normalize(x.flatten(1) @ x.flatten(1).T) for x in (s, t))
    return (g_s - g_t).pow(2).sum() / BATCH


def pkt(s: Tensor, t: Tensor) -> Tensor:
    k_s, k_t = ((F.normalize(x) @ F.normalize(x).T + 1) / 2 for x in (s, t))
    q, p = (k / k.sum(1, keepdim=True) for k in (k_s, k_t))
    return (p * (p / q).log()).sum(1).mean()


def cc(s: Tensor, t: Tensor) -> Tensor:
    def kernel(x: Tensor) -> Tensor:
        cos = F.normalize(x) @ F.normalize(x).T
        return (1 + 0.8 * cos + 0.32 * cos.pow(2)) * 0.44932896411722156

    return (kernel(s) - kernel(t)).pow(2).mean()


def ickd(s: Tensor, t: Tensor) -> Tensor:
    g_s, g_t = (F.normalize(torch.bmm(x, x.mT), dim=-1) for x in (s.flatten(2), t.flatten(2)))
    return (g_s - g_t).pow(2).sum(-1).mean()


def irg_edge(s: Tensor, t: Tensor) -> Tensor:
    def edges(x: Tensor) -> Tensor:
        square = x.pow(2).sum(1)
        d = (square[:, None] + square - 2 * x @ x.T).clamp(min=0) * (1 - torch.eye(len(x)))
        return d / d.max()

    return F.mse_loss(edges(s), edges(t))


def irg_transform(s: Tensor, t: Tensor, s_next: Tensor, t_next: Tensor) -> Tensor:
    d_s, d_t = ((x - y).flatten(1).pow(2).sum(1) for x, y in ((s, s_next), (t, t_next)))
    return F.mse_loss(d_s / d_s.max(), d_t / d_t.max())


def linear_cka(s: Tensor, t: Tensor) -> Tensor:
    x, y = (a - a.mean(0) for a in (s, t))
    k, m = x @ x.T, y @ y.T
    return 1 - (k * m).sum() / (k.norm() * m.norm())


def crd(
    s: Tensor, t: Tensor, memory_s: Tensor, memory_t: Tensor, index: Tensor, z: float
) -> Tensor:
    """As the authors: all remembered vectors of all samples, and their products."""
    noise = NEGATIVES / SAMPLES

    def side(x: Tensor, memory: Tensor) -> Tensor:
        chosen = memory.index_select(0, index.view(-1)).view(BATCH, 1 + NEGATIVES, WIDTH)
        p = torch.exp(torch.bmm(chosen, F.normalize(x)[:, :, None]).squeeze(2) / TAU) / z
        own = torch.log(p[:, 0] / (p[:, 0] + noise))
        return -(own + torch.log(noise / (p[:, 1:] + noise)).sum(1)).mean()

    return side(s, memory_t) + side(t, memory_s)


EMBEDDINGS = normal((256,), (512,))
MAPS, STAGES = normal((64, 8, 8), (64, 8, 8)), normal(*[(64, 8, 8)] * 4)
TWINS = {
    "kl": Twin(partial(losses.kl, temperature=T), kl, logits),
    "reverse_kl": Twin(partial(losses.reverse_kl, temperature=T), reverse_kl, logits),
    "dkd": Twin(partial(losses.dkd, beta=8.0, temperature=T), dkd, labelled),
    "hint": Twin(losses.hint, F.mse_loss, MAPS),
    "attention": Twin(losses.attention, attention, MAPS),
    "rkd_distance": Twin(losses.rkd_distance, rkd_distance, EMBEDDINGS),
    "rkd_angle": Twin(losses.rkd_angle, rkd_angle, EMBEDDINGS),
    "rkd_angle, best native form": Twin(losses.rkd_angle, rkd_angle_by_products, EMBEDDINGS),
    "sp": Twin(losses.sp, sp, MAPS),
    "pkt": Twin(losses.pkt, pkt, EMBEDDINGS),
    "cc": Twin(losses.cc, cc, EMBEDDINGS),
    "ickd": Twin(losses.ickd, ickd, MAPS),
    "irg_edge": Twin(losses.irg_edge, irg_edge, EMBEDDINGS),
    "irg_transform": Twin(losses.irg_transform, irg_transform, STAGES),
    "linear_cka": Twin(losses.linear_cka, linear_cka, EMBEDDINGS),
    "crd": Twin(partial(losses.crd, z_s=1e6, z_t=1e6), partial(crd, z=1e6), remembered),
}
