"""What torch is in the middle of: autocast, compiling."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

# The public word wants a device's name, and to read that from a tensor costs a small step 1 %.
autocasting: Callable[[], bool] = torch._C._is_any_autocast_enabled


def precisely(x: Tensor) -> AbstractContextManager[Any]:
    """Where `x` is, the precision of the arrays for the time being, whatever autocast says."""
    return torch.autocast(x.device.type, enabled=False) if autocasting() else nullcontext()


def visible(x: Tensor) -> bool:
    """Whether to look at numbers saves work: on a CPU outside of graphs, where nothing waits."""
    return x.is_cpu and not is_compiling()
