"""Where exits may stand in a model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.modes import eagerly, evaluating
from limbeck.taps import modules_of, runs_not

Shape = tuple[int, ...]


def find(model: nn.Module, inputs: Tensor, exits: int = 3) -> list[str]:
    """Places for up to `exits` exits, and last the deepest: proposals to look at.

    They are among the model's outermost siblings of one type that give maps or tokens: stages or
    blocks. Where sizes differ, the last one of each of the smallest sizes; where all are of one
    size, as in a ViT, evenly spaced ones. The model runs once, in eval mode.

    Raises:
        LimbeckError: there are no such siblings.

    Example:
        >>> from limbeck.zoo import resnet20
        >>> find(resnet20(), torch.zeros(1, 3, 32, 32), exits=1)
        ['layer2', 'layer3']
    """
    seen = shapes(model, inputs)
    modules, groups = modules_of(model), dict[tuple[str, type, int], list[str]]()
    for path, shape in seen.items():
        parent = path.rpartition(".")[0]
        groups.setdefault((parent, type(modules[path]), len(shape)), []).append(path)
    stages = outermost([group for group in groups.values() if len(group) > 1])
    if not stages:
        raise LimbeckError(
            f"no places for exits were found in {type(model).__name__}; name modules that give "
            'maps (B, C, H, W) or tokens (B, N, D), such as at=["layer2", "layer3", "layer4"]'
        )
    last = list({seen[path][2:] if len(seen[path]) == 4 else 0: path for path in stages}.values())
    if len(last) > 1:
        return last[-exits - 1 :]
    count = min(exits + 1, len(stages))
    return [stages[(k + 1) * len(stages) // count - 1] for k in range(count)]


def outermost(groups: list[list[str]]) -> list[str]:
    """Of groups of three or more siblings, or else of two, the outermost; the largest of those."""
    several = [group for group in groups if len(group) > 2] or groups
    return min(several, key=lambda group: (group[0].count("."), -len(group)), default=[])


def shapes(model: nn.Module, inputs: Tensor) -> dict[str, Shape]:
    """By path, what modules with parts of their own give that run once, in order of finishing."""
    seen: dict[str, list[Any]] = {}

    def noting(path: str) -> Callable[..., None]:
        return lambda module, args, output: seen.setdefault(path, []).append(output)

    hooks = [
        module.register_forward_hook(noting(path))
        for path, module in modules_of(model).items()
        if path and any(True for _ in module.children()) and not runs_not(module)
    ]
    try:
        with torch.no_grad(), evaluating(model), eagerly():
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    once = {path: tuple(out[0].shape) for path, out in seen.items() if is_one_tensor(out)}
    return {path: shape for path, shape in once.items() if is_features(shape, inputs)}


def is_one_tensor(outputs: Sequence[Any]) -> bool:
    return len(outputs) == 1 and isinstance(outputs[0], Tensor)


def is_features(shape: Shape, inputs: Tensor) -> bool:
    """Whether this is the shape of tokens or of a map; one of square images is square."""
    square = inputs.shape[-2] == inputs.shape[-1]
    return len(shape) == 3 or (len(shape) == 4 and (shape[2] == shape[3] or not square))
