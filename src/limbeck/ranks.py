"""What ranks tell one another: rows, means, and the values of the first."""

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

AVAILABLE = dist.is_available()


def several_ranks() -> bool:
    """Whether this process is one of several that train together."""
    return AVAILABLE and dist.group.WORLD is not None and dist.get_world_size() > 1


def gathered(x: Tensor) -> Tensor:
    """The rows of all ranks in their order, without a gradient; ranks may differ in how many.

    >>> gathered(torch.tensor([[1.0]]))
    tensor([[1.]])
    """
    x = x.detach()
    if not several_ranks():
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


def mean_of_ranks(values: list[float]) -> list[float]:
    """The mean of each value over the ranks, to the same bits on all of them."""
    if not several_ranks():
        return values
    gathered = [values] * dist.get_world_size()
    dist.all_gather_object(gathered, values)
    return [sum(column) / len(gathered) for column in zip(*gathered, strict=True)]


def equal_buffers(module: nn.Module) -> set[str]:
    """Names of the buffers that ranks keep equal themselves: each module's `equal_on_ranks`."""
    parts: Iterable[tuple[str, Any]] = module.named_modules()
    return {
        f"{path}.{name}".removeprefix(".")
        for path, part in parts
        for name in getattr(part, "equal_on_ranks", ())
    }


def spare_ddp(module: nn.Module) -> None:
    """Tells DDP not to send again in every step what ranks keep equal by themselves."""
    if names := sorted(equal_buffers(module)):
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


@torch.no_grad()
def agree(tensors: Iterable[Tensor]) -> None:
    """Gives all ranks the values of the first one, in place; of one device, and in one message."""
    found = [x for x in tensors if x.numel()]
    if not found or not several_ranks():
        return
    bits = [x.detach().contiguous().reshape(-1).view(torch.uint8) for x in found]
    flat = torch.cat(bits)
    dist.broadcast(flat, 0)
    for x, told in zip(found, flat.split([len(b) for b in bits]), strict=True):
        x.copy_(told.clone().view(x.dtype).view(x.shape))
