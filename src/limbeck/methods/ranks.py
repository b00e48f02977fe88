"""What objectives with a memory of their own need of the other ranks."""

import torch
import torch.distributed as dist
from torch import Tensor


def gathered(x: Tensor) -> Tensor:
    """The rows of all ranks in their order, without a gradient; ranks may differ in how many.

    >>> gathered(torch.tensor([[1.0]]))
    tensor([[1.]])
    """
    x = x.detach()
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return x
    lengths = exchanged(torch.tensor(len(x), device=x.device))
    longest = torch.zeros(int(max(lengths)), *x.shape[1:], device=x.device, dtype=x.dtype)
    longest[: len(x)] = x
    parts = zip(exchanged(longest), lengths, strict=True)
    return torch.cat([part[: int(length)] for part, length in parts])


def exchanged(x: Tensor) -> list[Tensor]:
    """An array of one shape from every rank."""
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x)
    return parts
