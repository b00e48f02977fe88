"""The first golden methods: the textbook, features, relations and ensembles."""

from typing import Literal

import torch.nn.functional as F
from golden_calls import Inputs, Method, Params, divergence, pair, temperature_of
from torch import Tensor

from limbeck import losses
from limbeck.sources import Ensemble, Source


def _fitnet(x: Inputs, params: Params) -> Tensor:
    return losses.hint(
        F.conv2d(x["student"], x["weight"][..., None, None], x["bias"]), x["teacher"]
    )


def _ensemble(mean: Literal["probabilities", "logits"]) -> Method:
    """KL from the mean of the teachers, as the source `Ensemble` combines their answers."""

    def method(x: Inputs, params: Params) -> Tensor:
        temperature = temperature_of(params)
        teachers = [x[name] for name in x if name.startswith("teacher")]
        silent = [Source() for _ in teachers]
        target = Ensemble(silent, mean=mean, temperature=temperature).combine(teachers)
        return losses.kl(x["student"], target, temperature=temperature)

    return method


METHODS: dict[str, Method] = {
    "at": pair(losses.attention),
    "ban": divergence(losses.kl),
    "byot_logit": divergence(losses.kl),
    "cs_kd": divergence(losses.kl),
    "fitnet": _fitnet,
    "kd": divergence(losses.kl),
    "kd_seg": divergence(losses.kl, axis=1),
    "mt_mean_logit": _ensemble("logits"),
    "mt_mean_prob": _ensemble("probabilities"),
    "pixel_kl": divergence(losses.kl, axis=1),
    "reverse_kl": divergence(losses.reverse_kl),
    "rkd_angle": pair(losses.rkd_angle),
    "rkd_distance": pair(losses.rkd_distance),
    "tfkd_self": divergence(losses.kl),
    "token_kd": divergence(losses.kl),
}
