"""What may teach: the ways to give a teacher, and whether its weights can be real."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from limbeck.checkpoint import read_module
from limbeck.models.build import build

log = logging.getLogger("limbeck")
KINDS = "a model name (str), a Path, an nn.Module or a callable that returns one"


def as_module(
    teacher: str | Path | nn.Module | Callable[[], nn.Module],
    *,
    pretrained: bool | str = False,
    unsafe_pickle: bool = False,
) -> nn.Module:
    """The network that a teacher is given as.

    Args:
        teacher: a module; a callable without arguments that returns one; a name as for `build`; or
            the path of a file that holds a whole pickled module.
        pretrained: the published weights of a name, as for `build`; fresh ones are logged loudly.
        unsafe_pickle: run the code that the file of a path contains.

    Raises:
        TypeError: anything else.
        LimbeckError: a name that does not exist, a file that is refused or holds no module.

    Example:
        >>> as_module(lambda: nn.Linear(2, 3))
        Linear(in_features=2, out_features=3, bias=True)
    """
    if isinstance(teacher, Path):
        return read_module(teacher, unsafe_pickle=unsafe_pickle)
    if isinstance(teacher, str):
        return by_name(teacher, pretrained, unsafe_pickle)
    made = teacher if isinstance(teacher, nn.Module) or not callable(teacher) else teacher()
    if not isinstance(made, nn.Module):
        raise TypeError(f"a teacher must be {KINDS}, got {type(made).__name__}")
    return made


def by_name(teacher: str, pretrained: bool | str, unsafe_pickle: bool) -> nn.Module:
    """A model that is given as text: its name, or the path of an existing file."""
    if Path(teacher).is_file():
        return read_module(Path(teacher), unsafe_pickle=unsafe_pickle)
    model = build(teacher, pretrained=pretrained)
    if not pretrained:
        log.warning(
            "the teacher %s has the weights that it was built with, none are loaded", teacher
        )
    return model


def suspicious_weights(model: nn.Module) -> str | None:
    """Why these weights cannot have been trained, in one line, or None.

    >>> suspicious_weights(nn.Linear(2, 2)) is None
    True
    """
    floats = [(n, p) for n, p in model.named_parameters() if p.is_floating_point()]
    bad = [name for name, p in floats if not bool(torch.isfinite(p).all())]
    if bad:
        return f"{bad[0]} is not finite"
    weights = [p for _, p in floats if p.ndim >= 2]
    if weights and not any(bool(p.any()) for p in weights):
        return f"all {len(weights)} weight tensors are zero"
    return None
