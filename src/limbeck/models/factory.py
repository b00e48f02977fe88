"""Networks of your own: `package.module:factory`."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError, close


def factory(spec: str) -> Callable[..., nn.Module]:
    """What `package.module:name` points to."""
    module, _, name = spec.partition(":")
    try:
        found = importlib.import_module(module)
    except (ImportError, TypeError) as error:
        raise LimbeckError(
            f"{spec!r} must be torchvision:NAME, timm:NAME or package.module:factory, "
            f"but {error}{close(module, neighbours(module))}"
        ) from error
    if not callable(getattr(found, name, None)):
        raise LimbeckError(f"{module} has no callable {name!r}{close(name, vars(found))}")
    return getattr(found, name)


def neighbours(module: str) -> list[str]:
    """What a mistyped module may have meant: the libraries, and the modules beside it."""
    parent = module.rpartition(".")[0]
    try:
        paths = importlib.import_module(parent).__path__ if parent else []
    except (ImportError, AttributeError):
        paths = []
    return ["torchvision", "timm", *(f"{parent}.{m.name}" for m in pkgutil.iter_modules(paths))]


def factory_model(spec: str, classes: int | None, options: dict[str, Any]) -> nn.Module:
    """A network of your own.

    The number of classes goes to its keyword `num_classes`, else `classes`, else nowhere.
    """
    make = factory(spec)
    keywords = inspect.signature(make).parameters
    taken = next((name for name in ("num_classes", "classes") if name in keywords), None)
    if taken is not None and classes is not None:
        if taken in options:
            raise LimbeckError(f"options of {spec} must leave {taken} to the number of classes")
        options = {taken: classes, **options}
    bind(make, spec, options)
    model = make(**options)
    if not isinstance(model, nn.Module):
        raise LimbeckError(f"{spec} must return an nn.Module, got {type(model).__name__}")
    return model


def bind(make: Callable[..., Any], spec: str, options: dict[str, Any]) -> None:
    """Raises LimbeckError unless the factory takes these keywords and lacks none."""
    signature = inspect.signature(make)
    known = signature.parameters
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in known.values())
    unknown = [] if anything else [name for name in options if name not in known]
    if unknown:
        name = unknown[0]
        raise LimbeckError(f"{spec} takes {list(known)}, got {name!r}{close(name, known)}")
    try:
        signature.bind(**options)
    except TypeError as error:
        raise LimbeckError(f"{spec} cannot be called: {error}") from error
