"""Linear layers that compute in 8-bit integers."""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError

log = logging.getLogger("limbeck")
LEVELS, TINY = 127, 1e-12


class Int8Linear(nn.Module):
    """A linear layer whose product is one of 8-bit integers, for the CPU.

    y = s_x s_w (Q_x Q_w^T) + b, with Q = round(x / s) and s = max |x| / 127: of the weights
    (out, in) by output channel, of the inputs (..., in) by row and anew in each call. Eager code
    loses what the product gains to the rounding of the inputs; compiled code fuses that. It has no
    `weight`, so that code which looks at a layer's weights fails.

    Example:
        >>> layer = nn.Linear(8, 4)
        >>> x = torch.rand(2, 8)
        >>> bool((Int8Linear(layer)(x) - layer(x)).abs().max() < 0.02)
        True

    Paper:
        Dettmers et al., LLM.int8(), NeurIPS 2022, arXiv 2208.07339 (vector-wise).
    """

    integers: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        integers, scale = rounded(layer.weight.detach().float())
        self.register_buffer("integers", integers)
        self.register_buffer("scale", scale[:, 0])
        self.bias = layer.bias

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = rounded(x.reshape(-1, x.shape[-1]).float())
        y = torch._int_mm(rows, self.integers.t()) * scale * self.scale
        y = y if self.bias is None else y + self.bias
        return y.to(x.dtype).reshape(*x.shape[:-1], -1)


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (R, F) as 8-bit integers, and the scale (R, 1) of each."""
    scale = x.abs().amax(1, keepdim=True).clamp(min=TINY) / LEVELS
    return (x / scale).round().to(torch.int8), scale


def quantise(model: nn.Module) -> list[str]:
    """Puts an `Int8Linear` in the place of each linear layer; their paths.

    Layers whose weights others read are left as they are: those inside of torch's own attention and
    encoder layers.

    Raises:
        LimbeckError: a model without any.
    """
    found = list(linears(model))
    if not found:
        raise LimbeckError("int8 is for linear layers, and the teacher has none; leave it out")
    for path in found:
        layer = model.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        model.set_submodule(path, Int8Linear(layer))
    log.info("%d linear layers compute in 8-bit integers", len(found))
    return found


def linears(model: nn.Module) -> Iterator[str]:
    """The paths of the linear layers that nobody but their own forward looks into."""
    for path, module in model.named_modules():
        parent = model.get_submodule(path.rpartition(".")[0])
        inside = bool(path) and not isinstance(parent, nn.TransformerEncoderLayer)
        if type(module) is nn.Linear and inside:
            yield path


def share(model: nn.Module) -> float:
    """The share of a model's weights that linear layers have which can be so."""
    layers = [model.get_parameter(f"{path}.weight") for path in linears(model)]
    return sum(w.numel() for w in layers) / max(sum(p.numel() for p in model.parameters()), 1)
