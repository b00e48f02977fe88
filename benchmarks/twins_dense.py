"""The dense losses as one writes them by hand in PyTorch: rows of `twins.py`."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from twins import T, Twin

from limbeck import losses

B, C, K, SIDE, BINS = 4, 64, 19, 32, 17
Draw = Callable[[torch.Generator], tuple[Tensor, ...]]


def maps(channels: int, other: int = 0, side: int = SIDE) -> Draw:
    """Draws two maps, of other widths if said."""
    shapes = [(B, channels, side, side), (B, other or channels, side, side)]
    return lambda g: tuple(torch.randn(shape, generator=g) for shape in shapes)


def labelled(g: torch.Generator) -> tuple[Tensor, ...]:
    return *maps(C, 2 * C)(g), torch.randint(K, (B, SIDE, SIDE), generator=g)


def boxed(g: torch.Generator) -> tuple[Tensor, ...]:
    low = torch.rand(B, 8, 2, generator=g) * 4 * SIDE
    boxes = torch.cat([low, low + torch.rand(B, 8, 2, generator=g) * 4 * SIDE], -1)
    return *maps(C)(g), boxes


def sided(g: torch.Generator) -> tuple[Tensor, ...]:
    s, t = torch.randn(2, B * SIDE * SIDE, 4, BINS, generator=g)
    return s, t, torch.rand(len(s), generator=g)


def classed(g: torch.Generator) -> tuple[Tensor, ...]:
    return *maps(C)(g), torch.randn(B, K, SIDE, SIDE, generator=g)


def channelwise(s: Tensor, t: Tensor) -> Tensor:
    log_q = F.log_softmax(s.flatten(2) / T, -1)
    p = F.softmax(t.flatten(2) / T, -1)
    return F.kl_div(log_q, p, reduction="sum") * T**2 / (s.shape[0] * s.shape[1])


def gram(x: Tensor) -> Tensor:
    kernel = (x.shape[2] // 8, x.shape[3] // 8)
    nodes = F.normalize(F.max_pool2d(x, kernel, ceil_mode=True).flatten(2), dim=1)
    return torch.einsum("bci,bcj->bij", nodes, nodes)


def pairwise(s: Tensor, t: Tensor) -> Tensor:
    return F.mse_loss(gram(s), gram(t))


def ifvd(s: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """As the authors: a mask and a mean a class, put together to a map of centres."""

    def closeness(x: Tensor) -> Tensor:
        centres = x.clone()
        for k in range(K):
            mask = (labels == k).unsqueeze(1).to(x.dtype)
            sums, sizes = (x * mask).sum((2, 3)), mask.sum((2, 3)) + 1e-6
            centres = centres * (1 - mask) + mask * (sums / sizes)[..., None, None]
        return F.cosine_similarity(x, centres, dim=1)

    return F.mse_loss(closeness(s), closeness(t))


def cirkd(s: Tensor, t: Tensor) -> Tensor:
    """As the authors: pair of images by pair of images."""
    s, t = (F.normalize(x, dim=1).flatten(2) for x in (s, t))
    total = s.new_zeros(())
    for i in range(B):
        for j in range(B):
            log_q = F.log_softmax(s[i].t() @ s[j] / 0.1, -1)
            p = F.softmax(t[i].t() @ t[j] / 0.1, -1)
            total = total + F.kl_div(log_q, p, reduction="batchmean")
    return total / B**2


def pkd(s: Tensor, t: Tensor) -> Tensor:
    def z(x: Tensor) -> Tensor:
        x = x.movedim(1, 0).flatten(1)
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, correction=0, keepdim=True) + 1e-6)

    return F.mse_loss(z(s), z(t)) / 2


def fgd(s: Tensor, t: Tensor, boxes: Tensor) -> Tensor:
    """As the authors: box by box, and the weights spread over all channels."""

    def attention(x: Tensor) -> tuple[Tensor, Tensor]:
        size = x.abs()
        spatial = F.softmax(size.mean(1).flatten(1) / 0.5, 1) * SIDE**2
        channel = F.softmax(size.mean((2, 3)) / 0.5, 1) * C
        return spatial.view(B, 1, SIDE, SIDE), channel.view(B, C, 1, 1)

    inside = torch.zeros(B, SIDE, SIDE)
    for b, image in enumerate((boxes / 8).tolist()):
        for x1, y1, x2, y2 in image:
            left, top, right, bottom = int(x1), int(y1), int(-(-x2 // 1)), int(-(-y2 // 1))
            share = 1 / ((right - left + 1) * (bottom - top + 1))
            part = inside[b, top : bottom + 1, left : right + 1]
            part.copy_(part.clamp(min=share))
    outside = (inside == 0).float()
    outside = outside / outside.sum((1, 2), keepdim=True).clamp(min=1)
    (s_p, s_c), (t_p, t_c) = attention(s), attention(t)
    error = (s - t) ** 2 * t_p * t_c
    near, far = ((error * m[:, None]).sum() / B for m in (inside, outside))
    gaps = (s_c - t_c).abs().sum() / B + (s_p - t_p).abs().sum() / B / SIDE**2
    return near + 0.5 * far + gaps


def bckd_cls(s: Tensor, t: Tensor) -> Tensor:
    p, q = t.sigmoid(), s.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(s, p, reduction="none")
    return (entropy * (p - q).abs()).sum(1).mean()


def ld(s: Tensor, t: Tensor, score: Tensor) -> Tensor:
    rows = F.kl_div(F.log_softmax(s / 10, -1), F.softmax(t / 10, -1), reduction="none").sum(-1)
    return 100 * (rows.mean(-1) * score).sum() / score.sum()


def score_weighted_l2(s: Tensor, t: Tensor, logits: Tensor) -> Tensor:
    score = logits.sigmoid().amax(1)
    return ((s - t).square().mean(1) * score).sum() / score.sum()


TWINS = {
    "channelwise": Twin(partial(losses.channelwise, temperature=T), channelwise, maps(C)),
    "pairwise": Twin(partial(losses.pairwise, scale=0.125), pairwise, maps(C, 2 * C)),
    "ifvd": Twin(partial(losses.ifvd, classes=K), ifvd, labelled),
    "cirkd": Twin(losses.cirkd, cirkd, maps(C, 2 * C, 16)),
    "pkd": Twin(losses.pkd, pkd, maps(C)),
    "fgd": Twin(partial(losses.fgd, stride=8), fgd, boxed),
    "bckd_cls": Twin(partial(losses.bckd_cls, axis=1), bckd_cls, maps(K)),
    "ld": Twin(losses.ld, ld, sided),
    "score_weighted_l2": Twin(losses.score_weighted_l2, score_weighted_l2, classed),
}
