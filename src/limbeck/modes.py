"""States that a model is in for the time being: evaluating, restored, uncompiled."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def is_compiled(module: nn.Module) -> bool:
    """Whether `module.compile()` or `torch.compile(module)` made it."""
    return module._compiled_call_impl is not None or "_orig_mod" in module._modules


@contextmanager
def eagerly() -> Iterator[None]:
    """Compiled code runs as written for the time being."""
    if "torch._dynamo" not in sys.modules:
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for the time being; every part's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Buffers, such as batch statistics, are afterwards as they were."""
    before = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for module, name, buffer, values in before:
            module._buffers[name] = buffer.copy_(values)
