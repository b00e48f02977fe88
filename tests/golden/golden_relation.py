"""The golden methods that compare samples, channels or layers."""

import torch
from golden_calls import Inputs, Method, Params, pair
from torch import Tensor

from limbeck import losses


def _cc(x: Inputs, params: Params) -> Tensor:
    return losses.cc(x["student"], x["teacher"], gamma=params["gamma"], order=params["order"])


def _crd(x: Inputs, params: Params) -> Tensor:
    return losses.crd(
        x["student"],
        x["teacher"],
        x["memory_student"],
        x["memory_teacher"],
        torch.cat([x["positives"][:, None], x["negatives"]], 1),
        temperature=params["tau"],
        z_s=params["z_student"],
        z_t=params["z_teacher"],
    )


def _irg_transform(x: Inputs, params: Params) -> Tensor:
    return losses.irg_transform(x["student"], x["teacher"], x["student2"], x["teacher2"])


METHODS: dict[str, Method] = {
    "cc": _cc,
    "crd": _crd,
    "ickd": pair(losses.ickd),
    "irg_edge": pair(losses.irg_edge),
    "irg_transform": _irg_transform,
    "linear_cka": pair(losses.linear_cka),
    "pkt": pair(losses.pkt),
    "sp": pair(losses.sp),
}
