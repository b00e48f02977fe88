"""Taps: read what a module inside a model returned, without changing the model.

A tap is named by the module's path (`"layer3.1"`), then by what to take of a tuple or mapping
(`"layer3.1.0"`, `"encoder.hidden"`); `"head#1"` is the second call of a module that runs more than
once. Hooks are in place during `with taps:` alone, so that copies, checkpoints, exports and
evaluation see the plain model.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, close

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Tap:
    """One named place in a model; called as a forward hook, it keeps what it saw."""

    def __init__(self, name: str, modules: Mapping[str, nn.Module]) -> None:
        path, self.fields = locate(name, modules)
        path, _, call = path.partition("#")
        self.name, self.path, self.module = name, path, modules[path]
        self.call = int(call) if call else None
        handle = self.module.register_forward_hook(self)
        handle.remove()
        self.key = handle.id
        self.seen: list[tuple[Any, int]] = []

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        value = select(output, self.fields, self.name)
        self.seen.append((value, version(value)))

    def read(self) -> Any:
        """What the module returned in this forward; raises LimbeckError if that is not clear."""
        if not self.seen:
            raise LimbeckError(
                f"tap {self.name!r} saw nothing: module {self.path!r} did not run in this forward; "
                "tap a module that does, and call `prepare` before compiling"
            )
        if self.call is None and len(self.seen) > 1:
            raise LimbeckError(
                f"module {self.path!r} ran {len(self.seen)} times in one forward; "
                f"choose a call: '{self.path}#0' to '{self.path}#{len(self.seen) - 1}'"
            )
        if self.call is not None and self.call >= len(self.seen):
            raise LimbeckError(f"tap {self.name!r}: {self.path!r} ran {len(self.seen)} times")
        value, before = self.seen[self.call or 0]
        if version(value) != before:
            raise LimbeckError(
                f"tap {self.name!r} was overwritten by an in-place operation after module "
                f"{self.path!r}; build what follows with inplace=False, or tap that instead"
            )
        return value


class Taps:
    """The taps of one model: `with taps: model(x)`, then `taps.read()` by name."""

    def __init__(self, model: nn.Module, names: Iterable[str]) -> None:
        modules = modules_of(model)
        self.taps = [Tap(name, modules) for name in names]

    def __enter__(self) -> None:
        if self.taps:
            guard_hooks()
        for tap in self.taps:
            tap.module._forward_hooks[tap.key] = tap

    def __exit__(self, *error: object) -> None:
        for tap in self.taps:
            tap.module._forward_hooks.pop(tap.key, None)
        if error[0] is not None:
            self.clear()

    def read(self) -> dict[str, Any]:
        """What each tap saw since the last read; nothing is kept."""
        try:
            return {tap.name: tap.read() for tap in self.taps}
        finally:
            self.clear()

    def clear(self) -> None:
        for tap in self.taps:
            tap.seen.clear()

    def __getstate__(self) -> dict[str, Any]:
        self.clear()
        return self.__dict__


def guard_hooks() -> None:
    """Let compiled code notice hooks; by default it reuses a graph that was traced without."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.config.skip_nnmodule_hook_guards = False


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """All modules by the path that a plain model has, whatever wraps it or its parts."""
    found: dict[str, nn.Module] = {}

    def walk(module: nn.Module, path: str) -> None:
        found[path] = module
        for name, child in module._modules.items():
            if child is None:
                continue
            inner = name == "_orig_mod" or (name == "module" and isinstance(module, WRAPPERS))
            walk(child, path if inner else f"{path}.{name}".lstrip("."))

    walk(model, "")
    return found


def locate(name: str, modules: Mapping[str, nn.Module]) -> tuple[str, tuple[str, ...]]:
    """The longest module path that `name` begins with (with its `#call`), and the fields left."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path = ".".join(parts[:length])
        module = modules.get(path.partition("#")[0])
        if module is not None and path and not (length < len(parts) and runs_not(module)):
            if runs_not(module):
                inside = [f"{path}.{child}" for child, _ in module.named_children()]
                kind = type(module).__name__
                raise LimbeckError(
                    f"tap {name!r} is a {kind}, which never runs itself; tap one of {inside}"
                )
            return path, tuple(parts[length:])
    hint = close(name, modules) or f"; there are {[p for p in modules if p and '.' not in p]}"
    raise LimbeckError(f"tap must name a module of the model, got {name!r}{hint}")


def runs_not(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def select(value: Any, fields: Iterable[str], name: str) -> Any:
    """A field of a tuple or mapping, of a field, ...; raises LimbeckError with what there is."""
    for field in fields:
        if isinstance(value, Mapping) and field in value:
            value = value[field]
        elif isinstance(value, tuple | list) and field.isdigit() and int(field) < len(value):
            value = value[int(field)]
        elif isinstance(value, tuple) and field in getattr(value, "_fields", ()):
            value = getattr(value, field)
        else:
            raise LimbeckError(f"signal {name!r} has no field {field!r}: it is {describe(value)}")
    return value


def describe(value: Any) -> str:
    """What a value is, in words for an error."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a mapping with {sorted(map(str, value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def version(value: Any) -> int:
    """How often a tensor was changed in place; compiled code has no such count."""
    if torch.compiler.is_compiling() or not isinstance(value, Tensor) or value.is_inference():
        return 0
    return value._version
