"""What a network costs."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from limbeck.modes import eagerly, evaluating

log = logging.getLogger("limbeck")


def cost(model: nn.Module, example: Tensor) -> dict[str, int]:
    """Parameters, bytes of the state, and floating-point operations for one example.

    A multiply-add counts as two operations (ResNet-18 at 224 px: 3.6e9); only matrix products,
    convolutions and attention count. `example` (B, ...) is what the model takes; the model runs
    once in eval mode, and its state and modes stay as they are. What runs it otherwise is looked
    through.

    Example:
        >>> cost(nn.Linear(4, 3), torch.zeros(2, 4))
        {'parameters': 15, 'flops': 24, 'bytes': 60}
    """
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), evaluating(model), as_written(model), unfused_attention(), counter:
        model(example)
    flops = counter.get_total_flops() // len(example)
    if not flops:
        log.warning("%s has no operation that is counted: its flops read 0", type(model).__name__)
    state = model.state_dict().values()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": flops,
        "bytes": sum(tensor.numel() * tensor.element_size() for tensor in state),
    }


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Modules run themselves, not what other code makes of them (torch.compile, OpenVINO)."""
    wrappers = [part for part in model.modules() if "_orig_mod" in part._modules]
    before = [part.__dict__.get("forward") for part in wrappers]
    for part in wrappers:
        part.__dict__["forward"] = part.get_submodule("_orig_mod").forward
    try:
        with eagerly():
            yield
    finally:
        for part, forward in zip(wrappers, before, strict=True):
            part.__dict__.pop("forward")
            part.__dict__ |= {} if forward is None else {"forward": forward}


@contextmanager
def unfused_attention() -> Iterator[None]:
    """Attention as matrix products: its fused kernels count as nothing on the CPU."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
