"""Golden methods of students that teach one another, through the modules that train them."""

from typing import Literal

import torch
from golden_calls import Inputs, Method, Params, temperature_of
from torch import Tensor, nn

from limbeck import Match, losses
from limbeck.schemes import Mutual, one
from limbeck.schemes.branches import gated
from limbeck.schemes.teaching import Rule
from limbeck.signals import Signals


def _mutual(teach: Literal["each"] | Rule) -> Method:
    """Nets that are their inputs: each says the logits that it is given."""

    def method(x: Inputs, params: Params) -> Tensor:
        nets = {name: logits for name, logits in x.items() if name.startswith("net")}
        kl = Match(losses.kl, source="peers", temperature=temperature_of(params))
        mutual = Mutual({name: nn.Identity() for name in nets}, kl, teach=teach)
        return mutual(nets, target=x.get("labels")).loss

    return method


def _one(x: Inputs, params: Params) -> Tensor:
    """The ensemble's part of the objective, without the labels'."""
    nets = [x[name] for name in x if name.startswith("net")]
    student = {f"output.branches.{k}": z for k, z in enumerate(nets)}
    student["output.logits"] = gated(nets, x["gate"])
    target = torch.zeros(len(x["gate"]), dtype=torch.int64)
    objective = one(len(nets), temperature=params["temperature"])
    parts = objective(Signals(student=student, data={"target": target}))
    return torch.stack([part for name, part in parts.items() if name.startswith("kl")]).sum()


METHODS: dict[str, Method] = {
    "dml2": _mutual("each"),
    "dml3": _mutual("each"),
    "kdcl_minlogit": _mutual("minlogit"),
    "kdcl_naive": _mutual("naive"),
    "one": _one,
}
