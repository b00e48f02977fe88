"""Golden methods of the logit family."""

import torch
from golden_calls import Inputs, Method, Params, divergence, mask_of, pair, temperature_of
from torch import Tensor

from limbeck import losses
from limbeck.losses import kl, reverse_kl


def _labelled(loss: Method) -> Method:
    """A loss called as `loss(student, teacher, labels, **params)`."""
    return lambda x, params: loss(x["student"], x["teacher"], x["labels"], **params)


def _with(loss: Method) -> Method:
    """A loss called as `loss(student, teacher, **params)`."""
    return lambda x, params: loss(x["student"], x["teacher"], **params)


def _jsd(x: Inputs, params: Params) -> Tensor:
    """At its ends the authors' family is, by special case, the two Kullback-Leibler directions."""
    ends = {0.0: kl, 1.0: reverse_kl}
    if params["beta"] in ends:
        return divergence(ends[params["beta"]])(x, params)
    s, t, temperature = x["student"], x["teacher"], temperature_of(params)
    return losses.jsd(s, t, mixture=params["beta"], temperature=temperature)


def _dist_of_maps(x: Inputs, params: Params) -> Tensor:
    keys = {key: params[key] for key in ("beta", "gamma", "temperature")}
    return losses.dist(x["student"], x["teacher"], axis=1, mask=mask_of(x, params), **keys)


def _ctkd(x: Inputs, params: Params) -> Tensor:
    """The golden gradient of theta is the plain one, before it is reversed."""
    temperature = params["t_start"] + params["t_range"] * x["theta"].sigmoid()[0]
    return kl(x["student"], x["teacher"], temperature=temperature)


def _ps_kd(x: Inputs, params: Params) -> Tensor:
    return losses.ps_kd(x["student"], x["past"].log(), x["labels"], alpha=params["alpha_t"])


def _tfkd_reg(x: Inputs, params: Params) -> Tensor:
    keys = {"correct": params["correct_prob"], "temperature": params["temperature"]}
    return losses.tfkd_reg(x["student"], x["labels"], **keys)


def _dlb(x: Inputs, params: Params) -> Tensor:
    """Labels of both halves of the batch, and the last step's logits of the one seen before."""
    logits = torch.cat([x["student"], x["current"]])
    hard = losses.cross_entropy(logits, torch.cat([x["labels_prev"], x["labels_now"]]))
    soft = kl(x["student"], x["teacher"], temperature=params["temperature"])
    return hard + params["alpha"] * soft


METHODS: dict[str, Method] = {
    "akl": _with(losses.akl),
    "ban_cwtm": _labelled(losses.ban_cwtm),
    "ctkd_global": _ctkd,
    "dist": _with(losses.dist),
    "dist_seg": _dist_of_maps,
    "dkd": _labelled(losses.dkd),
    "dlb": _dlb,
    "gjsd": _jsd,
    "jsd": _jsd,
    "logit_mse": pair(losses.logit_mse),
    "lskd": divergence(losses.lskd),
    "mlkd": _with(losses.mlkd),
    "nkd": _labelled(losses.nkd),
    "ps_kd": _ps_kd,
    "skew_kl": _with(losses.skew_kl),
    "skew_reverse_kl": _with(losses.skew_reverse_kl),
    "tfkd_reg": _tfkd_reg,
    "ttm": _with(losses.ttm),
    "tvd": pair(losses.total_variation),
    "wsld": _labelled(losses.wsld),
    "wttm": _with(losses.wttm),
}
