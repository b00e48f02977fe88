"""Batches as foreign teachers take them: order of the axes, and type."""

import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.foreign.spec import DType, Layout

OTHER: dict[Layout, Layout] = {
    "NCHW": "NHWC",
    "NHWC": "NCHW",
    "rows": "rows_nhwc",
    "rows_nhwc": "rows",
}


def arranged(x: Tensor, layout: Layout) -> Tensor:
    """Inputs (B, C, H, W), or (B, F) for rows, in a layout.

    >>> arranged(torch.zeros(2, 3, 4, 5), "NHWC").shape
    torch.Size([2, 4, 5, 3])
    """
    if layout.startswith("rows") and x.ndim == 2:
        return x
    if x.ndim != 4:
        raise LimbeckError(
            f"layout {layout} is for images (B, C, H, W), got {tuple(x.shape)}; give inputs= what "
            "makes such images, or say another layout"
        )
    match layout:
        case "NCHW":
            return x
        case "NHWC":
            return x.permute(0, 2, 3, 1)
        case "rows":
            return x.flatten(1)
        case "rows_nhwc":
            return x.permute(0, 2, 3, 1).flatten(1)


def typed(x: Tensor, dtype: DType) -> Tensor:
    """Inputs of a type; raises LimbeckError for fractions where it takes whole numbers."""
    kind: torch.dtype = getattr(torch, dtype)
    y = x.to(kind)
    if not kind.is_floating_point and bool((y != x).any()):
        raise LimbeckError(
            f"a teacher of {dtype} takes its whole numbers, but its inputs are others "
            f"({x.min():.4g} to {x.max():.4g}); leave out what normalises them"
        )
    return y


def channels_first(feature: Tensor, layout: Layout) -> Tensor:
    """A feature map as torch students have them, (B, C, H, W)."""
    return feature.permute(0, 3, 1, 2) if layout == "NHWC" and feature.ndim == 4 else feature
