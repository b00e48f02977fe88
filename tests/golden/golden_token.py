"""Golden methods of token models, learned pairs of layers and pooled features."""

from collections.abc import Callable
from itertools import count

import torch
import torch.nn.functional as F
from golden_calls import Inputs, Method, Params, mask_of
from torch import Tensor

from limbeck import losses


def _afd(x: Inputs, params: Params) -> Tensor:
    shares = x["attention_logits"].softmax(-1)
    parts = [
        losses.afd(x[f"student_{i}"], x["teacher"], weight=shares[:, i - 1])
        for i in range(1, 1 + shares.shape[1])
    ]
    return torch.stack(parts).sum()


def _semckd(x: Inputs, params: Params) -> Tensor:
    shares = x["attention_logits"].softmax(-1)
    parts = [
        losses.hint(x[f"student_{i}{j}"], x[f"teacher_{i}{j}"], weight=shares[:, i, j])
        for i in range(params["n_student"])
        for j in range(params["n_teacher"])
    ]
    return torch.stack(parts).sum() / params["n_student"]


def _projected(loss: Callable[..., Tensor]) -> Method:
    def method(x: Inputs, params: Params) -> Tensor:
        return loss(F.linear(x["student"], x["weight"], x.get("bias")), x["teacher"])

    return method


def _vitkd(x: Inputs, params: Params) -> Tensor:
    layers = zip(count(), x["student"].unbind(1), x["teacher"].unbind(1))
    parts = [
        losses.vitkd_mimic(F.linear(s, x[f"w{i}"], x[f"b{i}"]) if "w0" in x else s, t)
        for i, s, t in layers
    ]
    return torch.stack(parts).sum()


def _masked(loss: Callable[..., Tensor], **keys: object) -> Method:
    """A loss called as `loss(student, teacher, mask=mask, **params)`."""
    return lambda x, params: loss(
        x["student"], x["teacher"], mask=mask_of(x, params), **keys, **params
    )


def _relations(*kinds: str) -> Method:
    def method(x: Inputs, params: Params) -> Tensor:
        keys = {"heads": params["heads"], "mask": mask_of(x, params)}
        sides = [(x[f"student_{kind}"], x[f"teacher_{kind}"]) for kind in kinds]
        return torch.stack([losses.minilm_relation(*side, **keys) for side in sides]).sum()

    return method


def _minilm_attention(x: Inputs, params: Params) -> Tensor:
    signals = [x[name] for name in ("student_q", "teacher_q", "student_k", "teacher_k")]
    return losses.minilm_attention(*signals, heads=params["heads"], mask=mask_of(x, params))


def _pkd_bert(x: Inputs, params: Params) -> Tensor:
    return losses.pkd_bert(x["student"].flatten(0, 1), x["teacher"].flatten(0, 1))


def _margin_mse(x: Inputs, params: Params) -> Tensor:
    scores = [(x["query"] * x[name]).sum(-1) for name in ("positive", "negative")]
    return losses.margin_mse(torch.stack(scores, -1), x["teacher_margin"][:, None])


METHODS: dict[str, Method] = {
    "afd": _afd,
    "margin_mse": _margin_mse,
    "minilm_attention": _minilm_attention,
    "minilm_value": _relations("v"),
    "minilmv2": _relations("q", "k", "v"),
    "pkd_bert": _pkd_bert,
    "semckd": _semckd,
    "srd_correlation": _projected(losses.srd_correlation),
    "srd_logsum": _projected(losses.srd_logsum),
    "tinybert_attention": _masked(losses.tinybert_attention),
    "tinybert_hidden": _masked(losses.hint, axis=-1),
    "topk_tail_kd": _masked(losses.topk_kl),
    "uld": _masked(losses.uld),
    "vitkd_mimic": _vitkd,
    "vkd": _projected(losses.vkd),
}
