"""The losses on logits as one writes them by hand in PyTorch: rows of `twins.py`."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from twins import BATCH, CLASSES, Loss, T, Twin, kl, labelled, logits

from limbeck import losses

KEPT = 16


def indexed(g: torch.Generator, batch: int = BATCH, classes: int = CLASSES) -> tuple[Tensor, ...]:
    """Logits, and the log probabilities of a source's most likely classes with their indices."""
    s, t = logits(g, batch, classes)
    return s, *F.log_softmax(t / T, -1).topk(KEPT)


def several(
    g: torch.Generator, batch: int = BATCH, classes: int = CLASSES
) -> tuple[Tensor, Tensor]:
    """Logits, and a label or none for every class."""
    s, t = logits(g, batch, classes)
    return s, (t > 1).float()


def labels_only(
    g: torch.Generator, batch: int = BATCH, classes: int = CLASSES
) -> tuple[Tensor, Tensor]:
    s, _, target = labelled(g, batch, classes)
    return s, target


def both(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    return F.log_softmax(s / T, -1), F.log_softmax(t / T, -1)


def divergence(log_q: Tensor, log_p: Tensor) -> Tensor:
    """Rows."""
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


# ---- divergences


def hard(s: Tensor, t: Tensor) -> Tensor:
    return F.cross_entropy(s, t.argmax(-1))


def jeffreys(s: Tensor, t: Tensor) -> Tensor:
    log_q, log_p = both(s, t)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean() * T**2


def jsd(s: Tensor, t: Tensor) -> Tensor:
    q, p = F.softmax(s / T, -1), F.softmax(t / T, -1)
    log_m = ((p + q) / 2).log()
    sides = (F.kl_div(log_m, x, reduction="batchmean") for x in (p, q))
    return sum(sides, s.new_zeros(())) / 2 * T**2


def skew_kl(s: Tensor, t: Tensor) -> Tensor:
    q, p = F.softmax(s / T, -1), F.softmax(t / T, -1)
    return F.kl_div((0.1 * p + 0.9 * q).log(), p, reduction="batchmean") * T**2


def skew_reverse_kl(s: Tensor, t: Tensor) -> Tensor:
    return skew_kl(t, s)


def total_variation(s: Tensor, t: Tensor) -> Tensor:
    return (F.softmax(t, -1) - F.softmax(s, -1)).abs().sum(-1).mean() / 2


def akl(s: Tensor, t: Tensor) -> Tensor:
    """As the authors: sorted probabilities, and the head's share of their differences."""
    log_q, log_p = both(s, t)
    p, order = log_p.exp().sort(-1, descending=True)
    gap = (p - log_q.detach().exp().gather(-1, order)).abs()
    head = p.cumsum(-1) <= 0.5
    head[:, 0] = True
    share = (gap * head).sum(-1) / gap.sum(-1)
    items = share * divergence(log_q, log_p) + (1 - share) * divergence(log_p, log_q)
    return items.mean() * T**2


def lskd(s: Tensor, t: Tensor) -> Tensor:
    z_s, z_t = ((x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-7) for x in (s, t))
    return kl(z_s, z_t)


def ttm(s: Tensor, t: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s, -1), F.softmax(0.1 * t, -1), reduction="batchmean")


def wttm(s: Tensor, t: Tensor) -> Tensor:
    p = F.softmax(t, -1) ** 0.1
    u = p.sum(-1, keepdim=True)
    rows = F.kl_div(F.log_softmax(s, -1), p / u, reduction="none").sum(-1)
    return (u[:, 0] * rows).mean()


def with_bucket(log_p: Tensor) -> Tensor:
    """The log probabilities of kept classes, and of all others."""
    return torch.cat([log_p, torch.log1p(-log_p.exp().sum(-1, keepdim=True))], -1)


def sparse_kl(s: Tensor, log_p: Tensor, index: Tensor) -> Tensor:
    log_q = F.log_softmax(s / T, -1).gather(-1, index)
    return divergence(with_bucket(log_q), with_bucket(log_p)).mean() * T**2


def topk_kl(s: Tensor, t: Tensor) -> Tensor:
    return sparse_kl(s, *F.log_softmax(t / T, -1).topk(KEPT))


def uld(s: Tensor, t: Tensor) -> Tensor:
    q, p = (F.softmax(x, -1).sort(-1, descending=True).values for x in (s, t))
    return (p - q).abs().sum(-1).mean()


# ---- samples too


def correlation(x: Tensor, y: Tensor) -> Tensor:
    x, y = (a - a.mean(-1, keepdim=True) for a in (x, y))
    return F.cosine_similarity(x, y, dim=-1)


def dist(s: Tensor, t: Tensor) -> Tensor:
    q, p = F.softmax(s / T, -1), F.softmax(t / T, -1)
    return (2 - correlation(q, p).mean() - correlation(q.t(), p.t()).mean()) * T**2


def mlkd(s: Tensor, t: Tensor) -> Tensor:
    q, p = F.softmax(s / T, -1), F.softmax(t / T, -1)
    samples = (p @ p.t() - q @ q.t()).pow(2).sum() / len(s)
    return kl(s, t) + samples + (p.t() @ p - q.t() @ q).pow(2).sum() / s.shape[1]


# ---- labels too


def rest(x: Tensor, target: Tensor) -> Tensor:
    """The logits of the classes that are not the label."""
    others = torch.ones_like(x, dtype=torch.bool).scatter_(1, target[:, None], False)
    return x[others].view(len(x), -1)


def nkd(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    sure = F.softmax(t, -1).gather(1, target[:, None])[:, 0]
    hard = sure * F.cross_entropy(s, target, reduction="none")
    log_q, p = F.log_softmax(rest(s, target) / T, -1), F.softmax(rest(t, target) / T, -1)
    return (hard - 1.5 * T**2 * (p * log_q).sum(-1)).mean()


def wsld(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    mine, theirs = (F.cross_entropy(x.detach(), target, reduction="none") for x in (s, t))
    return ((1 - torch.exp(-mine / theirs)) * divergence(*both(s, t))).mean() * T**2


def ban_cwtm(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    w = F.softmax(t, -1).amax(-1)
    return (w * F.cross_entropy(s, target, reduction="none")).sum() / w.sum()


def ps_kd(s: Tensor, t: Tensor, target: Tensor) -> Tensor:
    soft = 0.2 * F.one_hot(target, s.shape[1]) + 0.8 * F.softmax(t, -1)
    return F.cross_entropy(s, soft)


def tfkd_reg(s: Tensor, target: Tensor) -> Tensor:
    virtual = torch.full_like(s, 0.01 / (s.shape[1] - 1)).scatter_(1, target[:, None], 0.99)
    return F.kl_div(F.log_softmax(s, -1), F.softmax(virtual / 20, -1), reduction="batchmean")


# ---- classes that do not compete


def binary_kl(s: Tensor, t: Tensor) -> Tensor:
    p = torch.sigmoid(t / T)
    entropy = F.binary_cross_entropy_with_logits(t / T, p, reduction="sum")
    cross = F.binary_cross_entropy_with_logits(s / T, p, reduction="sum")
    return (cross - entropy) / len(s) * T**2


def binary_cross_entropy(s: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(s, target, reduction="sum") / len(s)


def binary_hard(s: Tensor, t: Tensor) -> Tensor:
    return binary_cross_entropy(s, (t > 0).float())


def at(loss: Loss, plain: Loss) -> Twin:
    """Both at temperature T."""
    return Twin(partial(loss, temperature=T), plain, logits)


TWINS = {
    "cross_entropy": Twin(losses.cross_entropy, F.cross_entropy, labels_only),
    "hard": Twin(losses.hard, hard, logits),
    "logit_mse": Twin(losses.logit_mse, F.mse_loss, logits),
    "logit_l1": Twin(losses.logit_l1, F.l1_loss, logits),
    "jeffreys": at(losses.jeffreys, jeffreys),
    "jsd": at(losses.jsd, jsd),
    "skew_kl": at(losses.skew_kl, skew_kl),
    "skew_reverse_kl": at(losses.skew_reverse_kl, skew_reverse_kl),
    "total_variation": Twin(losses.total_variation, total_variation, logits),
    "akl": at(losses.akl, akl),
    "lskd": at(losses.lskd, lskd),
    "ttm": Twin(losses.ttm, ttm, logits),
    "wttm": Twin(losses.wttm, wttm, logits),
    "topk_kl": at(partial(losses.topk_kl, k=KEPT), topk_kl),
    "sparse_kl": Twin(partial(losses.sparse_kl, temperature=T), sparse_kl, indexed),
    "uld": Twin(losses.uld, uld, logits),
    "dist": at(losses.dist, dist),
    "mlkd": Twin(partial(losses.mlkd, temperatures=[T]), mlkd, logits),
    "nkd": Twin(partial(losses.nkd, temperature=T), nkd, labelled),
    "wsld": Twin(partial(losses.wsld, temperature=T), wsld, labelled),
    "ban_cwtm": Twin(losses.ban_cwtm, ban_cwtm, labelled),
    "ps_kd": Twin(losses.ps_kd, ps_kd, labelled),
    "tfkd_reg": Twin(losses.tfkd_reg, tfkd_reg, labels_only),
    "binary_kl": at(losses.binary_kl, binary_kl),
    "binary_cross_entropy": Twin(losses.binary_cross_entropy, binary_cross_entropy, several),
    "binary_hard": Twin(losses.binary_hard, binary_hard, logits),
    "squared_error": Twin(losses.squared_error, F.mse_loss, logits),
}
