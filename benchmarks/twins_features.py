"""The losses on features as one writes them by hand in PyTorch: rows of `twins.py`."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from twins import BATCH, MAPS, STAGES, Twin, normal

from limbeck import losses

CHANNELS = 64
HEADS = 4
MARGINS, VARIANCES = torch.full((CHANNELS,), -0.5), torch.full((CHANNELS,), 0.5)
POSITIONS = BATCH * 64  # of MAPS


def unit(x: Tensor) -> Tensor:
    return F.normalize(x.flatten(1))


# ---- maps


def nst(s: Tensor, t: Tensor) -> Tensor:
    s, t = (F.normalize(x.flatten(2), dim=2) for x in (s, t))

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return torch.bmm(x, y.mT).pow(2).mean()

    return kernel(t, t) + kernel(s, s) - 2 * kernel(s, t)


def ft(s: Tensor, t: Tensor) -> Tensor:
    return (unit(s) - unit(t)).abs().mean()


def cat_kd(s: Tensor, t: Tensor) -> Tensor:
    q_s, q_t = (F.normalize(F.adaptive_avg_pool2d(x, 2).flatten(2), dim=2) for x in (s, t))
    return F.mse_loss(q_s, q_t)


def sad(s: Tensor, t: Tensor) -> Tensor:
    a_s, a_t = (F.softmax(x.pow(2).sum(1).flatten(1), 1) for x in (s, t))
    return F.mse_loss(a_s, a_t)


def hcl(s: Tensor, t: Tensor) -> Tensor:
    """As the authors."""
    total, factor, factors = F.mse_loss(s, t), 1.0, 1.0
    for level in (4, 2, 1):
        factor /= 2
        total = total + factor * F.mse_loss(
            F.adaptive_avg_pool2d(s, level), F.adaptive_avg_pool2d(t, level)
        )
        factors += factor
    return total / factors


def fsp(s: Tensor, t: Tensor, s_deep: Tensor, t_deep: Tensor) -> Tensor:
    g_s, g_t = (
        torch.bmm(deep.flatten(2), first.flatten(2).mT) / 64
        for first, deep in ((s, s_deep), (t, t_deep))
    )
    return F.mse_loss(g_s, g_t)


def jacobian(s: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(unit(s), unit(t))


def mgd(s: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(s, t, reduction="sum") / POSITIONS


def ab(s: Tensor, t: Tensor) -> Tensor:
    return F.relu(1 - torch.where(t > 0, s, -s)).pow(2).sum() / POSITIONS


def ofd(s: Tensor, t: Tensor) -> Tensor:
    t = torch.max(t, MARGINS[:, None, None])
    square = F.mse_loss(s, t, reduction="none")
    return (square * ((s > t) | (t > 0)).float()).sum() / POSITIONS


def byot_hint(s: Tensor, t: Tensor) -> Tensor:
    return ((s - t).pow(2) * ((s > 0) | (t > 0)).float()).sum() / POSITIONS


def vid(s: Tensor, t: Tensor) -> Tensor:
    v = VARIANCES[:, None, None]
    return 0.5 * ((s - t).pow(2) / v + v.log()).mean()


def afd(s: Tensor, t: Tensor) -> Tensor:
    q_s, q_t = (unit(x.pow(2).mean(1)) for x in (s, t))
    return (q_s - q_t).pow(2).sum(1).mean()


# ---- one vector a sample


def vkd(s: Tensor, t: Tensor) -> Tensor:
    return F.smooth_l1_loss(s, F.layer_norm(t, t.shape[1:]))


def standard(x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True, eps=1e-4)


def srd_logsum(s: Tensor, t: Tensor) -> Tensor:
    return torch.log((standard(s) - standard(t)).pow(4).sum() / len(s) + 1e-5)


def srd_correlation(s: Tensor, t: Tensor) -> Tensor:
    c = (standard(s) * standard(t)).mean(0)
    return torch.log((c - 1).pow(4).sum() + 1e-5)


def cosine(s: Tensor, t: Tensor) -> Tensor:
    return (1 - F.cosine_similarity(s, t, dim=-1)).mean()


def margin_mse(s: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(s[:, :1] - s[:, 1:], t[:, :1] - t[:, 1:])


def pkd_bert(s: Tensor, t: Tensor) -> Tensor:
    return (F.normalize(s[:, 0]) - F.normalize(t[:, 0])).pow(2).sum(1).mean()


# ---- tokens


def vitkd_mimic(s: Tensor, t: Tensor) -> Tensor:
    return (s - t).pow(2).sum(-1).mean()


def relations(q: Tensor, k: Tensor) -> Tensor:
    q, k = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (q, k))
    return F.log_softmax(q @ k.mT / k.shape[-1] ** 0.5, -1)


def minilm_attention(s: Tensor, t: Tensor, s_keys: Tensor, t_keys: Tensor) -> Tensor:
    log_q, log_p = relations(s, s_keys), relations(t, t_keys)
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).mean()


def minilm_relation(s: Tensor, t: Tensor) -> Tensor:
    return minilm_attention(s, t, s, t)


VECTORS, SCORES = normal((256,), (256,)), normal((17,), (17,))
STATES, ATTENTION = normal((32, 64), (32, 64)), normal((HEADS, 32, 32), (HEADS, 32, 32))
TWINS = {
    "nst": Twin(losses.nst, nst, MAPS),
    "ft": Twin(losses.ft, ft, MAPS),
    "cat_kd": Twin(losses.cat_kd, cat_kd, MAPS),
    "sad": Twin(losses.sad, sad, MAPS),
    "hcl": Twin(losses.hcl, hcl, MAPS),
    "fsp": Twin(losses.fsp, fsp, STAGES),
    "jacobian": Twin(losses.jacobian, jacobian, MAPS),
    "mgd": Twin(losses.mgd, mgd, MAPS),
    "ab": Twin(losses.ab, ab, MAPS),
    "ofd": Twin(partial(losses.ofd, margin=MARGINS), ofd, MAPS),
    "byot_hint": Twin(losses.byot_hint, byot_hint, MAPS),
    "vid": Twin(partial(losses.vid, variance=VARIANCES), vid, MAPS),
    "afd": Twin(losses.afd, afd, MAPS),
    "vkd": Twin(losses.vkd, vkd, VECTORS),
    "srd_logsum": Twin(losses.srd_logsum, srd_logsum, VECTORS),
    "srd_correlation": Twin(losses.srd_correlation, srd_correlation, VECTORS),
    "cosine": Twin(losses.cosine, cosine, VECTORS),
    "margin_mse": Twin(losses.margin_mse, margin_mse, SCORES),
    "pkd_bert": Twin(losses.pkd_bert, pkd_bert, STATES),
    "hint of tokens": Twin(partial(losses.hint, axis=-1), F.mse_loss, STATES),
    "vitkd_mimic": Twin(losses.vitkd_mimic, vitkd_mimic, STATES),
    "minilm_attention": Twin(
        partial(losses.minilm_attention, heads=HEADS), minilm_attention, normal(*[(32, 64)] * 4)
    ),
    "minilm_relation": Twin(partial(losses.minilm_relation, heads=HEADS), minilm_relation, STATES),
    "tinybert_attention": Twin(losses.tinybert_attention, F.mse_loss, ATTENTION),
}
