"""Losses: pure functions of (student, source) that return one number.

`loss(s, t, *, mask=None, weight=None, count=None)` sums over classes, averages over the valid
items of the batch, and is a scalar of the arrays' own framework. `mask` says which items are valid,
`weight` scales items, `count` replaces the divisor (default: the number of valid items) so that
micro-batches and ranks can share one. Losses that compare the samples of a batch take `mask` only.
"""

from limbeck.losses.boundaries import ab, byot_hint, ofd
from limbeck.losses.contrast import crd
from limbeck.losses.correlation import dist, mlkd
from limbeck.losses.detection import defeat, fgd, fgfi, pkd
from limbeck.losses.divergences import akl, jeffreys, jsd, skew_kl, skew_reverse_kl, total_variation
from limbeck.losses.embeddings import cosine, margin_mse
from limbeck.losses.features import attention, hint
from limbeck.losses.generation import mgd
from limbeck.losses.gradients import jacobian
from limbeck.losses.graphs import irg_edge, irg_transform
from limbeck.losses.heads import bckd_cls, bckd_giou, giou, ld, score_weighted_l2
from limbeck.losses.kernels import cc, linear_cka, pkt
from limbeck.losses.large import chunked_kl, linear_kl, linear_sparse_kl
from limbeck.losses.layers import fsp, kdsvd
from limbeck.losses.logits import cross_entropy, hard, kl, reverse_kl
from limbeck.losses.maps import cat_kd, ft, nst, sad
from limbeck.losses.pairing import afd
from limbeck.losses.partial import classes
from limbeck.losses.pooled import srd_correlation, srd_logsum, vkd
from limbeck.losses.raw import logit_l1, logit_mse
from limbeck.losses.relations import rkd_angle, rkd_distance
from limbeck.losses.review import hcl
from limbeck.losses.segmentation import channelwise, cirkd, ifvd, pairwise
from limbeck.losses.sigmoid import binary_cross_entropy, binary_hard, binary_kl, squared_error
from limbeck.losses.similarity import ickd, sp
from limbeck.losses.sparse import sparse_kl, topk_kl
from limbeck.losses.standardise import lskd, standardise, standardised
from limbeck.losses.targets import ban_cwtm, dkd, nkd, ps_kd, tfkd_reg, wsld
from limbeck.losses.tokens import uld, vitkd_mimic
from limbeck.losses.transformed import ttm, wttm
from limbeck.losses.transformers import (
    minilm_attention,
    minilm_relation,
    pkd_bert,
    tinybert_attention,
)
from limbeck.losses.variational import vid

__all__ = [
    "ab",
    "afd",
    "akl",
    "attention",
    "ban_cwtm",
    "bckd_cls",
    "bckd_giou",
    "binary_cross_entropy",
    "binary_hard",
    "binary_kl",
    "byot_hint",
    "cat_kd",
    "cc",
    "channelwise",
    "chunked_kl",
    "cirkd",
    "classes",
    "cosine",
    "crd",
    "cross_entropy",
    "defeat",
    "dist",
    "dkd",
    "fgd",
    "fgfi",
    "fsp",
    "ft",
    "giou",
    "hard",
    "hcl",
    "hint",
    "ickd",
    "ifvd",
    "irg_edge",
    "irg_transform",
    "jacobian",
    "jeffreys",
    "jsd",
    "kdsvd",
    "kl",
    "ld",
    "linear_cka",
    "linear_kl",
    "linear_sparse_kl",
    "logit_l1",
    "logit_mse",
    "lskd",
    "margin_mse",
    "mgd",
    "minilm_attention",
    "minilm_relation",
    "mlkd",
    "nkd",
    "nst",
    "ofd",
    "pairwise",
    "pkd",
    "pkd_bert",
    "pkt",
    "ps_kd",
    "reverse_kl",
    "rkd_angle",
    "rkd_distance",
    "sad",
    "score_weighted_l2",
    "skew_kl",
    "skew_reverse_kl",
    "sp",
    "sparse_kl",
    "squared_error",
    "srd_correlation",
    "srd_logsum",
    "standardise",
    "standardised",
    "tfkd_reg",
    "tinybert_attention",
    "topk_kl",
    "total_variation",
    "ttm",
    "uld",
    "vid",
    "vitkd_mimic",
    "vkd",
    "wsld",
    "wttm",
]
