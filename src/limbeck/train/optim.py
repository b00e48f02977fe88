"""Optimizers by torch's names, parameter groups, the learning rate as a function of progress."""

import math
from typing import Any

import torch
from torch import nn

from limbeck.train.settings import Training

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


def groups(student: nn.Module, objective: nn.Module, settings: Training) -> list[dict[str, Any]]:
    """Weights, then biases and norms without decay, for the students and for the projectors."""
    found = []
    for module, lr in ((student, settings.lr), (objective, settings.projector_lr or settings.lr)):
        free = set() if settings.decay_all else undecayed(module)
        for names_decay in (True, False):
            params = [
                p
                for name, p in module.named_parameters()
                if p.requires_grad and (name not in free) == names_decay
            ]
            if params:
                decay = settings.weight_decay if names_decay else 0.0
                found.append({"params": params, "peak": lr, "lr": lr, "weight_decay": decay})
    return found


def undecayed(module: nn.Module) -> set[str]:
    """The names of biases and of the parameters of normalisation layers."""
    return {
        f"{path}.{name}".lstrip(".")
        for path, part in module.named_modules()
        for name, _ in part.named_parameters(recurse=False)
        if name.endswith("bias") or isinstance(part, NORMS)
    }


def optimizer_for(
    student: nn.Module, objective: nn.Module, settings: Training
) -> torch.optim.Optimizer:
    """The optimizer that the settings name."""
    params = groups(student, objective, settings)
    match settings.optimizer:
        case "SGD":
            return torch.optim.SGD(params, momentum=settings.momentum, nesterov=settings.nesterov)
        case "RMSprop":
            return torch.optim.RMSprop(params, momentum=settings.momentum)
        case "Adam":
            return torch.optim.Adam(params, betas=settings.betas)
        case "AdamW":
            return torch.optim.AdamW(params, betas=settings.betas)


def rate(progress: float, settings: Training) -> float:
    """The fraction of the peak rate at `progress` in [0, 1].

    >>> [round(rate(p, Training(warmup=0.2)), 3) for p in (0.0, 0.1, 0.2, 0.6, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < settings.warmup:
        return progress / settings.warmup
    if settings.schedule == "constant":
        return 1.0
    if settings.schedule == "step":
        return settings.gamma ** sum(progress >= at for at in settings.milestones)
    left = (progress - settings.warmup) / max(1 - settings.warmup, 1e-12)
    return (1 + math.cos(math.pi * left)) / 2


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
