"""Codecs that keep every number of a row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.store.codec import Arrays, Codec, Draws, Shape, classes

LARGEST = 65504.0  # in half precision


@dataclass(frozen=True)
class Float32(Codec):
    """The numbers themselves; a student trained from them is the one trained with the teacher."""

    name = "float32"
    masks = True

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        return {"values": x.numpy().copy()}  # not what the caller may write to again

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        return {"": torch.from_numpy(arrays["values"])}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        return lost(x, decoded[""])


@dataclass(frozen=True)
class Float16(Codec):
    """Half precision, for features: eleven bits of each number."""

    name = "float16"

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        largest = float(x.abs().max()) if x.numel() else 0.0
        if largest > LARGEST:
            raise LimbeckError(
                f"half precision holds numbers up to {LARGEST:.0f}, got {largest:g}; "
                "use the codec float32"
            )
        return {"values": x.half().numpy()}

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        return {"": torch.from_numpy(arrays["values"]).float()}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        return lost(x, decoded[""])


@dataclass(frozen=True)
class Logits(Codec):
    """Half precision of each logit's distance to the largest of its row, and the largest.

    Rounding then matters least where the probability is: the error of log p is that of a number
    near 0, whatever the logits' own size. -inf stays.
    """

    name = "logits"
    masks = True

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        largest = x.amax(-1, keepdim=True)
        below = x - largest
        below = torch.where(below.isneginf(), below, below.clamp(min=-LARGEST))
        return {"values": below.half().numpy(), "largest": largest[..., 0].numpy()}

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        largest = torch.from_numpy(arrays["largest"])
        return {"": torch.from_numpy(arrays["values"]).float() + largest[..., None]}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        log_p, log_q = x.double().log_softmax(-1), decoded[""].double().log_softmax(-1)
        pieces = torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q))
        return lost(x, decoded[""]) | {"kl": float(pieces.sum(-1).mean())}

    def check(self, shape: Shape) -> None:
        classes(self.name, shape)


@dataclass(frozen=True)
class Int8(Codec):
    """Bytes, with a step for each channel of a map (C, H, W, ...), or for the whole of a vector."""

    name = "int8"

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        axes = spatial(x)
        step = x.abs().amax(axes, keepdim=True) / 127
        values = (x / step.masked_fill(step == 0, 1.0)).round()
        return {"values": values.to(torch.int8).numpy(), "step": step.numpy()}

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        return {"": torch.from_numpy(arrays["values"]) * torch.from_numpy(arrays["step"])}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        return lost(x, decoded[""])

    def check(self, shape: Shape) -> None:
        if not shape:
            raise LimbeckError("codec 'int8' is for vectors and maps, got rows of one number")


@dataclass(frozen=True)
class Hard(Codec):
    """The class of the largest logit alone."""

    name = "hard"
    gives = (".label",)
    masks = True

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        kind = np.uint16 if x.shape[-1] <= 1 << 16 else np.uint32
        return {"label": x.argmax(-1).numpy().astype(kind)}

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        return {".label": torch.from_numpy(arrays["label"].astype(np.int64))}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        return {"wrong": float((x.argmax(-1) != decoded[".label"]).float().mean())}

    def check(self, shape: Shape) -> None:
        classes(self.name, shape)


def spatial(x: Tensor) -> tuple[int, ...]:
    """The axes that share a step: all after the channels, or the only one."""
    return tuple(range(2, x.ndim)) or (1,)


def lost(x: Tensor, decoded: Tensor) -> dict[str, float]:
    """Mean and largest difference of the numbers that are finite, in their own unit."""
    gap = (x - decoded).abs()[x.isfinite()]
    return {"mean": float(gap.mean()), "max": float(gap.max())} if gap.numel() else {}
