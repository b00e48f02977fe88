"""The one way in which pixels move: every output pixel names the input pixel that it copies."""

from torch import Tensor


def take(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Copies pixels of (B, C, H, W) from `rows` and `columns`, zeros from outside the image.

    The two broadcast to (B, H', W'), so that a shift is (B, H', 1) and (B, 1, W').

    >>> import torch
    >>> image = torch.tensor([[[[1, 2], [3, 4]]]])
    >>> take(image, torch.tensor([[[0], [1]]]), torch.tensor([[[1, 2]]]))
    tensor([[[[2, 0],
              [4, 0]]]])
    """
    b, c, h, w = images.shape
    index = rows.clamp(0, h - 1) * w + columns.clamp(0, w - 1)
    flat = index.flatten(1)[:, None].expand(b, c, -1)
    out = images.reshape(b, c, h * w).gather(2, flat).view(b, c, *index.shape[1:])
    inside = [(at >= 0) & (at < size) for at, size in ((rows, h), (columns, w))]
    if all(bool(axis.all()) for axis in inside):
        return out
    return out.mul_((inside[0] & inside[1])[:, None])
