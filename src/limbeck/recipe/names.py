"""Names in a recipe: a function of limbeck's, or your own as package.module:name."""

import importlib
from collections.abc import Callable
from typing import Any

from limbeck import losses, projectors
from limbeck.errors import LimbeckError, close

PROJECTORS = {"conv": projectors.conv, "linear": projectors.linear}


def function(name: str) -> Callable[..., Any]:
    """A loss by name."""
    if ":" in name:
        return imported(name)
    if name not in losses.__all__:
        raise LimbeckError(
            f"loss must be truth, one of {losses.__all__} or package.module:function, got "
            f"{name!r}{close(name, ['truth', *losses.__all__])}"
        )
    return getattr(losses, name)


def projector(name: str) -> Callable[..., Any]:
    """A projector factory by name."""
    if ":" in name:
        return imported(name)
    if name not in PROJECTORS:
        raise LimbeckError(
            f"project must be one of {sorted(PROJECTORS)} or package.module:factory, got "
            f"{name!r}{close(name, PROJECTORS)}"
        )
    return PROJECTORS[name]


def imported(name: str) -> Callable[..., Any]:
    """What `package.module:name` points to."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:
        raise LimbeckError(f"{name!r} must be package.module:name, but {error}") from error
    if not callable(found):
        raise LimbeckError(f"{name!r} must be a function, got {type(found).__name__}")
    return found
