"""Golden methods on feature maps, by the modules that train: weights are given, norms left out."""

from typing import Any

import torch
from golden_calls import Inputs, Method, Params, pair
from torch import Tensor, nn

from limbeck import losses
from limbeck.methods.generation import Generator
from limbeck.methods.margins import Overhaul
from limbeck.methods.regression import Regression
from limbeck.methods.reuse import SimKD, bottleneck
from limbeck.methods.review import ReviewKD
from limbeck.methods.variational import VID, Regressor
from limbeck.objective import Match
from limbeck.signals import Signals


def given(module: nn.Module, **values: Tensor) -> None:
    """Sets parameters by path, 1x1 kernels from matrices."""
    parameters = dict(module.named_parameters())
    for path, value in values.items():
        parameter = parameters[path.replace("__", ".")]
        parameter.data = value.detach().reshape(parameter.shape)


def without_norms(module: nn.Module) -> None:
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())


def signals(x: Inputs, *layers: str) -> Signals:
    sides: dict[str, Any] = {
        side: {layer: x[f"{side}_{layer}"] if layer else x[side] for layer in layers}
        for side in ("student", "teacher")
    }
    return Signals(**sides)


def _two_layers(x: Inputs, name: str, **keys: Any) -> Tensor:
    loss = getattr(losses, name)
    sides = (f"{side}_{layer}" for layer in ("low", "high") for side in ("student", "teacher"))
    return loss(*(x[side] for side in sides), **keys)


def _vid(x: Inputs, params: Params) -> Tensor:
    regressor = Regressor(tuple(x["student"].shape), tuple(x["teacher"].shape), start=5.0)
    middle = x["w1"].shape[0]  # the golden entries' hidden width is their own
    c = x["teacher"].shape[1]
    regressor.mean = nn.Sequential(
        nn.Conv2d(x["student"].shape[1], middle, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(middle, middle, 1, bias=False),
        nn.ReLU(),
        nn.Conv2d(middle, c, 1, bias=False),
    )
    weights = {f"mean.{2 * i}.weight": x[f"w{i + 1}"] for i in range(3)}
    given(regressor, a=x["log_scale"], **weights)
    match = VID("", "", name="vid")
    match.projector = regressor
    return match(signals(x, ""))["vid"]


def _ofd(x: Inputs, params: Params) -> Tensor:
    norm = nn.BatchNorm2d(x["student"].shape[1])
    given(norm, weight=x["bn_weight"], bias=x["bn_bias"])
    return Overhaul(norm)(x["student"], x["teacher"])


def _reviewkd(x: Inputs, params: Params) -> Tensor:
    review = ReviewKD(["low", "deep"], width=x["w_low1"].shape[0])
    seen = signals(x, "low", "deep")
    review.prepare(seen)
    without_norms(review)
    for i, stage in enumerate(("deep", "low")):
        given(
            review.fusions[i],
            enter__0__weight=x[f"w_{stage}1"],
            leave__0__weight=x[f"w_{stage}2"],
        )
    given(review.fusions[1], attend__0__weight=x["w_att"], attend__0__bias=x["b_att"])
    return review(seen)["reviewkd"]


def _simkd(x: Inputs, params: Params) -> Tensor:
    """The entries' projector is one 1x1 convolution; the pooling before it is the method's."""
    match = SimKD("", "", classifier=nn.Identity(), name="simkd")
    projector = bottleneck(tuple(x["student"].shape), tuple(x["teacher"].shape))
    resize = [part for part in projector if not list(part.parameters())][:1]
    stand_in = nn.Conv2d(x["student"].shape[1], x["teacher"].shape[1], 1, bias=False)
    given(stand_in, weight=x["weight"])
    pooled = type(resize[0]).__name__ == "Resize"
    match.projector = nn.Sequential(*(resize if pooled else []), stand_in)
    return match(signals(x, ""))["simkd"]


def _srrl(x: Inputs, params: Params) -> Tensor:
    classifier = nn.Linear(*reversed(x["cls_weight"].shape))
    given(classifier, weight=x["cls_weight"], bias=x["cls_bias"])
    return Regression(classifier, params["sr_weight"])(x["student"], x["teacher"])


class Told(Generator):
    """A generator that is told what to keep."""

    told: Tensor

    def keep(self, s: Tensor) -> Tensor:
        return self.told


def _mgd(x: Inputs, params: Params) -> Tensor:
    generator = Told(
        tuple(x["student"].shape),
        tuple(x["teacher"].shape),
        ratio=params["lambda"],
        positions=params["mask"] == "spatial",
    )
    u, ratio = x["uniform"], params["lambda"]
    generator.told = (u <= 1 - ratio if generator.positions else u >= ratio).to(u.dtype)
    align = {"align.weight": x["align_w"], "align.bias": x["align_b"]} if "align_w" in x else {}
    weights = {
        f"generate.{at}.{kind}": x[f"g{i}_{kind[0]}"]
        for i, at in ((1, 0), (2, 2))
        for kind in ("weight", "bias")
    }
    given(generator, **align, **weights)
    match = Match(losses.mgd, "", "", project=generator, name="mgd")
    return match(signals(x, ""))["mgd"]


def _cat_kd(x: Inputs, params: Params) -> Tensor:
    return losses.cat_kd(
        x["student"],
        x["teacher"],
        resolution=params["cam_resolution"],
        normalise=params["normalize"],
    )


def _jacobian(x: Inputs, params: Params) -> Tensor:
    rows = torch.arange(len(x["target"]))
    s, t = (x[f"{side}_jacobian"][rows, x["target"]] for side in ("student", "teacher"))
    return losses.jacobian(s, t)


def _byot_feature(x: Inputs, params: Params) -> Tensor:
    """Summed over positions as well."""
    return losses.byot_hint(x["student"], x["teacher"]) * x["student"][0, 0].numel()


METHODS: dict[str, Method] = {
    "ab": lambda x, params: losses.ab(x["student"], x["teacher"], margin=params["margin"]),
    "byot_feature": _byot_feature,
    "byot_hint": pair(losses.byot_hint),
    "cat_kd": _cat_kd,
    "fsp": lambda x, params: _two_layers(x, "fsp"),
    "ft": pair(losses.ft),
    "jacobian": _jacobian,
    "kdsvd": lambda x, params: _two_layers(x, "kdsvd", k=params["k"]),
    "mgd": _mgd,
    "nst": pair(losses.nst),
    "ofd": _ofd,
    "reviewkd_abf": _reviewkd,
    "reviewkd_hcl": pair(losses.hcl),
    "sad": pair(losses.sad),
    "simkd": _simkd,
    "srrl": _srrl,
    "vid": _vid,
}
