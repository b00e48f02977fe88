"""Golden methods of segmentation and detection."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from golden_calls import Inputs, Method, Params, pair
from torch import Tensor
from torch.func import functional_call

from limbeck import losses
from limbeck.losses.detection import align
from limbeck.methods.focal import Context

# Equal sides: their notes say zero gradient and the authors' is zero, yet their gradient has
# entries, the sign of a rounding error at the kink of |sigma(t) - sigma(s)|.
DISPUTED = {"bckd_cls-same", "crosskd_cls-same"}


def padded(boxes: Sequence[Sequence[Sequence[float]]], like: Tensor) -> Tensor:
    """Lists of boxes as one array, filled up with boxes that are not there."""
    most = max(len(image) for image in boxes)
    nothing = [0.0, 0.0, -1.0, -1.0]
    rows = [[*image, *[nothing] * (most - len(image))] for image in boxes]
    return like.new_tensor(rows).reshape(len(boxes), most, 4)


def _channelwise(x: Inputs, params: Params) -> Tensor:
    return losses.channelwise(x["student"], x["teacher"], temperature=params["tau"])


def _pixel(x: Inputs, params: Params) -> Tensor:
    return losses.kl(x["student"], x["teacher"], temperature=params["T"], axis=1)


def _pairwise(x: Inputs, params: Params) -> Tensor:
    return losses.pairwise(x["student"], x["teacher"], scale=params["scale"])


def _ifvd(x: Inputs, params: Params) -> Tensor:
    return losses.ifvd(x["student"], x["teacher"], x["label"], classes=params["n_classes"])


def _cirkd(x: Inputs, params: Params) -> Tensor:
    return losses.cirkd(x["student"], x["teacher"], temperature=params["temperature"])


def _context(x: Inputs, f: Tensor, side: str) -> Tensor:
    """The global context of FGD, with the weights of an entry."""
    context = Context(f.shape[1]).to(f.dtype)
    own = {
        "where.weight": f"mask_w_{side}",
        "where.bias": f"mask_b_{side}",
        "what.0.weight": f"c1_w_{side}",
        "what.0.bias": f"c1_b_{side}",
        "what.3.weight": f"c2_w_{side}",
        "what.3.bias": f"c2_b_{side}",
    }
    return functional_call(context, {mine: x[theirs] for mine, theirs in own.items()}, (f,))


def _fgd(x: Inputs, params: Params) -> Tensor:
    s, t, weights = x["student"], x["teacher"], params["weights"]
    if "align_w" in x:
        s = F.conv2d(s, x["align_w"][..., None, None], x["align_b"])
    focal = losses.fgd(
        s,
        t,
        padded(params["boxes"], t),
        stride=params["img_shape"][0][0] / t.shape[2],
        temperature=params["temp"],
        foreground=weights["alpha"],
        background=weights["beta"],
        channel=weights["gamma"],
        spatial=weights["gamma"],
    )
    relation = t.shape[1] * losses.hint(_context(x, s, "s"), _context(x, t, "t"))
    return focal + weights["lambda"] * relation


def _fgfi(x: Inputs, params: Params) -> Tensor:
    boxes = padded(params["boxes"], x["teacher"])
    options = {"stride": params["stride"], "anchors": params["anchor_sizes"]}
    return losses.fgfi(x["student"], x["teacher"], boxes, **options)


def _defeat(x: Inputs, params: Params) -> Tensor:
    levels = len(params["strides"])
    parts = [
        losses.defeat(
            x[f"student_{level}"],
            x[f"teacher_{level}"],
            padded(params["boxes"], x["teacher_0"]),
            stride=stride,
            level=level,
            levels=levels,
            foreground=params["fg_weight"],
            background=params["bg_weight"],
        )
        for level, stride in enumerate(params["strides"])
    ]
    return torch.stack(parts).mean()


def _ld(x: Inputs, params: Params) -> Tensor:
    return losses.ld(x["student"], x["teacher"], x["weight"], temperature=params["T"])


def _bckd_cls(x: Inputs, params: Params) -> Tensor:
    mask = x["weight"] != 0
    return losses.bckd_cls(x["student"], x["teacher"], beta=params["beta"], mask=mask)


def _bckd_giou(x: Inputs, params: Params) -> Tensor:
    logits = x["student_cls"], x["teacher_cls"]
    return losses.bckd_giou(x["student"], x["teacher"], *logits, mask=x["label_weight"] != 0)


def _crosskd_reg(x: Inputs, params: Params) -> Tensor:
    score = x["teacher_cls"].sigmoid().amax(-1) * x["label_weight"]
    return losses.ld(x["student"], x["teacher"], score, temperature=params["T"])


def _crosskd_align(x: Inputs, params: Params) -> Tensor:
    return (align(x["student"], x["teacher"]) * x["probe"]).mean()


def _score_weighted_l2(x: Inputs, params: Params) -> Tensor:
    return losses.score_weighted_l2(x["student"], x["teacher"], x["teacher_scores"])


METHODS: dict[str, Method] = {
    "bckd_cls": _bckd_cls,
    "bckd_giou": _bckd_giou,
    "cirkd_minibatch": _cirkd,
    "crosskd_align": _crosskd_align,
    "crosskd_cls": _bckd_cls,
    "crosskd_reg": _crosskd_reg,
    "cwd": _channelwise,
    "cwd_logits": _channelwise,
    "defeat": _defeat,
    "fgd": _fgd,
    "fgfi": _fgfi,
    "ifvd": _ifvd,
    "ld": _ld,
    "pkd": pair(losses.pkd),
    "score_weighted_l2": _score_weighted_l2,
    "skd_pairwise": _pairwise,
    "skd_pixel": _pixel,
}
