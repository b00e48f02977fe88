"""Plain expressions that hold what the losses hold beside the usual case: rows of `twins.py`.

A plain one-liner says nothing, or something else, where a label is unknown, nothing is left for the
tail, or both sides agree. These are written by hand for such a batch, still in plain PyTorch, for
the losses whose care is dear beside their one-liner.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from twins import BATCH, CLASSES, EMBEDDINGS, T, Twin
from twins_logits import KEPT, several

from limbeck import losses

UNKNOWN = -100.0


def unknown(
    g: torch.Generator, batch: int = BATCH, classes: int = CLASSES
) -> tuple[Tensor, Tensor]:
    """Logits and labels of several classes, a tenth of them unknown."""
    s, target = several(g, batch, classes)
    return s, target.masked_fill(torch.rand(target.shape, generator=g) < 0.1, UNKNOWN)


def tailless(g: torch.Generator) -> tuple[Tensor, ...]:
    """As `indexed`, of a source that is sure: half the rows leave nothing for the other classes."""
    s, t = (torch.randn(BATCH, n, generator=g) for n in (CLASSES, KEPT))
    index = torch.rand(s.shape, generator=g).topk(KEPT).indices
    left = torch.arange(BATCH)[:, None] % 2 * 0.3
    return s, F.log_softmax(t / T, -1) + torch.log1p(-left), index


def binary_cross_entropy(s: Tensor, target: Tensor) -> Tensor:
    known = target != UNKNOWN
    entries = F.binary_cross_entropy_with_logits(
        s, target * known, known.to(s.dtype), reduction="sum"
    )
    return entries / known.any(-1).sum()


def sparse_kl(s: Tensor, log_p: Tensor, index: Tensor) -> Tensor:
    log_q = F.log_softmax(s / T, -1)
    rest = log_q.scatter(-1, index, -torch.inf).logsumexp(-1, keepdim=True)
    log_q = torch.cat([log_q.gather(-1, index), rest], -1)
    p = log_p.exp()
    p = torch.cat([p, (1 - p.sum(-1, keepdim=True)).clamp(min=0)], -1)
    return F.kl_div(log_q, p, reduction="batchmean") * T**2


def linear_cka(s: Tensor, t: Tensor) -> Tensor:
    def direction(x: Tensor) -> Tensor:
        x = x - x.mean(0)
        return F.normalize((x @ x.T).flatten(), dim=0)

    return (direction(s) - direction(t)).pow(2).sum() / 2


TWINS = {
    "binary_cross_entropy, unknown labels": Twin(
        losses.binary_cross_entropy, binary_cross_entropy, unknown
    ),
    "sparse_kl, no tail left": Twin(partial(losses.sparse_kl, temperature=T), sparse_kl, tailless),
    "linear_cka, 0 at equality": Twin(losses.linear_cka, linear_cka, EMBEDDINGS),
}
