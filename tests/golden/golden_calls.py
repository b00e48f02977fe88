"""How golden entries call limbeck: inputs and parameters by name, a scalar out."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

Inputs = Mapping[str, Tensor]
Params = Mapping[str, Any]
Method = Callable[[Inputs, Params], Tensor]


def temperature_of(params: Params) -> float:
    return params.get("temperature", params.get("T", 1.0))


def mask_of(x: Inputs, params: Params) -> Tensor | None:
    """Which items count: a mask, or labels that are not the ignored one."""
    labels = x.get("labels", x.get("label"))
    if labels is not None and "ignore_index" in params:
        return labels != params["ignore_index"]
    return x["mask"] != 0 if "mask" in x else None


def divergence(loss: Callable[..., Tensor], axis: int = -1) -> Method:
    return lambda x, params: loss(
        x["student"],
        x["teacher"],
        temperature=temperature_of(params),
        axis=axis,
        mask=mask_of(x, params),
    )


def pair(loss: Callable[..., Tensor]) -> Method:
    return lambda x, params: loss(x["student"], x["teacher"])
