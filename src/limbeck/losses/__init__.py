"""Losses: pure functions of (student, source) that return one number.

`loss(s, t, *, mask=None, weight=None, count=None)` sums over classes, averages over the valid
items of the batch, and is a scalar of the arrays' own framework. `mask` says which items are valid,
`weight` scales items, `count` replaces the divisor (default: the number of valid items) so that
micro-batches and ranks can share one. Losses that compare the samples of a batch take `mask` only.
In torch many form their gradient with their value: a second derivative is right or
refused, outside of compiled code.
"""

from limbeck.losses.boundaries import ab as ab
from limbeck.losses.boundaries import byot_hint as byot_hint
from limbeck.losses.boundaries import ofd as ofd
from limbeck.losses.contrast import crd as crd
from limbeck.losses.correlation import dist as dist
from limbeck.losses.correlation import mlkd as mlkd
from limbeck.losses.detection import defeat as defeat
from limbeck.losses.detection import fgd as fgd
from limbeck.losses.detection import fgfi as fgfi
from limbeck.losses.detection import pkd as pkd
from limbeck.losses.divergences import akl as akl
from limbeck.losses.divergences import jeffreys as jeffreys
from limbeck.losses.divergences import jsd as jsd
from limbeck.losses.divergences import skew_kl as skew_kl
from limbeck.losses.divergences import skew_reverse_kl as skew_reverse_kl
from limbeck.losses.divergences import total_variation as total_variation
from limbeck.losses.embeddings import cosine as cosine
from limbeck.losses.embeddings import margin_mse as margin_mse
from limbeck.losses.features import attention as attention
from limbeck.losses.features import hint as hint
from limbeck.losses.generation import mgd as mgd
from limbeck.losses.gradients import jacobian as jacobian
from limbeck.losses.graphs import irg_edge as irg_edge
from limbeck.losses.graphs import irg_transform as irg_transform
from limbeck.losses.heads import bckd_cls as bckd_cls
from limbeck.losses.heads import bckd_giou as bckd_giou
from limbeck.losses.heads import giou as giou
from limbeck.losses.heads import ld as ld
from limbeck.losses.heads import score_weighted_l2 as score_weighted_l2
from limbeck.losses.kernels import cc as cc
from limbeck.losses.kernels import linear_cka as linear_cka
from limbeck.losses.kernels import pkt as pkt
from limbeck.losses.large import chunked_kl as chunked_kl
from limbeck.losses.large import linear_kl as linear_kl
from limbeck.losses.large import linear_sparse_kl as linear_sparse_kl
from limbeck.losses.layers import fsp as fsp
from limbeck.losses.layers import kdsvd as kdsvd
from limbeck.losses.logits import cross_entropy as cross_entropy
from limbeck.losses.logits import hard as hard
from limbeck.losses.logits import kl as kl
from limbeck.losses.logits import reverse_kl as reverse_kl
from limbeck.losses.maps import cat_kd as cat_kd
from limbeck.losses.maps import ft as ft
from limbeck.losses.maps import nst as nst
from limbeck.losses.maps import sad as sad
from limbeck.losses.pairing import afd as afd
from limbeck.losses.partial import classes as classes
from limbeck.losses.pooled import srd_correlation as srd_correlation
from limbeck.losses.pooled import srd_logsum as srd_logsum
from limbeck.losses.pooled import vkd as vkd
from limbeck.losses.raw import logit_l1 as logit_l1
from limbeck.losses.raw import logit_mse as logit_mse
from limbeck.losses.relations import rkd_angle as rkd_angle
from limbeck.losses.relations import rkd_distance as rkd_distance
from limbeck.losses.review import hcl as hcl
from limbeck.losses.segmentation import channelwise as channelwise
from limbeck.losses.segmentation import cirkd as cirkd
from limbeck.losses.segmentation import ifvd as ifvd
from limbeck.losses.segmentation import pairwise as pairwise
from limbeck.losses.sigmoid import binary_cross_entropy as binary_cross_entropy
from limbeck.losses.sigmoid import binary_hard as binary_hard
from limbeck.losses.sigmoid import binary_kl as binary_kl
from limbeck.losses.sigmoid import squared_error as squared_error
from limbeck.losses.similarity import ickd as ickd
from limbeck.losses.similarity import sp as sp
from limbeck.losses.sparse import sparse_kl as sparse_kl
from limbeck.losses.sparse import topk_kl as topk_kl
from limbeck.losses.standardise import lskd as lskd
from limbeck.losses.standardise import standardise as standardise
from limbeck.losses.standardise import standardised as standardised
from limbeck.losses.targets import ban_cwtm as ban_cwtm
from limbeck.losses.targets import dkd as dkd
from limbeck.losses.targets import nkd as nkd
from limbeck.losses.targets import ps_kd as ps_kd
from limbeck.losses.targets import tfkd_reg as tfkd_reg
from limbeck.losses.targets import wsld as wsld
from limbeck.losses.tokens import uld as uld
from limbeck.losses.tokens import vitkd_mimic as vitkd_mimic
from limbeck.losses.transformed import ttm as ttm
from limbeck.losses.transformed import wttm as wttm
from limbeck.losses.transformers import minilm_attention as minilm_attention
from limbeck.losses.transformers import minilm_relation as minilm_relation
from limbeck.losses.transformers import pkd_bert as pkd_bert
from limbeck.losses.transformers import tinybert_attention as tinybert_attention
from limbeck.losses.variational import vid as vid

__all__ = sorted(name for name, value in vars().items() if callable(value))
