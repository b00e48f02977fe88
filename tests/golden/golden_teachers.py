"""Golden methods of several teachers."""

from golden_calls import Inputs, Method, Params
from torch import Tensor

from limbeck import Objective, methods
from limbeck.signals import Signals


def told(objective: Objective, x: Inputs) -> Tensor:
    """What the objective's one part is for logits by name."""
    sides = {name: {"output": z} for name, z in x.items() if name != "labels"}
    (value,) = objective(Signals(sides, data={"target": x.get("labels")})).values()
    return value


def teachers(x: Inputs) -> list[str]:
    return [name for name in x if name.startswith("teacher")]


def _ebkd(x: Inputs, params: Params) -> Tensor:
    return told(methods.ebkd(teachers(x), params["temperature"], truth_weight=0), x)


def _camkd(x: Inputs, params: Params) -> Tensor:
    return told(methods.camkd(teachers(x), params["temperature"], truth_weight=0), x)


def _aekd(x: Inputs, params: Params) -> Tensor:
    keys = {"limit": params["C"], "weight": 1.0, "truth_weight": 0}
    return told(methods.aekd(teachers(x), params["temperature"], **keys), x)


METHODS: dict[str, Method] = {"aekd": _aekd, "camkd": _camkd, "ebkd": _ebkd}
