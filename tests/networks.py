"""Small networks and batches for the tests of the core."""

from typing import Any

import torch
from torch import Tensor, nn


class Mlp(nn.Module):
    """4 inputs, two hidden layers, 3 classes."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Linear(4, width)
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x).relu()).relu())


class Noisy(nn.Module):
    """What a frozen teacher must keep still: batch statistics and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.drop(self.stem(x)))


class Convs(nn.Module):
    """Images (B, 3, H, W) to 3 classes, with batch normalisation."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.act = nn.ReLU()
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act(self.norm(self.conv(x))).mean((2, 3)))


class Custom(nn.Module):
    """A model whose forward is a function of the module and its inputs."""

    def __init__(self, forward: Any, **modules: nn.Module) -> None:
        super().__init__()
        self.function = forward
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def mlp(width: int = 8, seed: int = 0, classes: int = 3) -> Mlp:
    torch.manual_seed(seed)
    return Mlp(width, classes)


def batch(rows: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Inputs (rows, 4) and labels."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 4, generator=generator)
    return x, torch.randint(0, 3, (rows,), generator=generator)


def hooks(model: nn.Module) -> int:
    """How many forward hooks a model carries."""
    return sum(len(module._forward_hooks) for module in model.modules())


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
