"""Taps: read what a module inside a model returned, without changing the model.

A tap is named by the module's path (`"layer3.1"`), then by what to take of a tuple or mapping
(`"layer3.1.0"`, `"encoder.hidden"`); `"head#1"` is the second call of a module that runs more than
once. Hooks are in place during `with taps:` alone, so that copies, checkpoints, exports and
evaluation see the plain model.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, close

WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Tap:
    """One named place in a model; called as a forward hook, it keeps what it saw."""

    def __init__(
        self, name: str, modules: Mapping[str, nn.Module], others: Sequence[str] = ()
    ) -> None:
        self.path, self.call, self.fields = locate(name, modules, others)
        self.name, self.module = name, modules[self.path]
        self.hint = close(name, filter(None, modules)) if self.fields else ""
        handle = self.module.register_forward_hook(self)
        handle.remove()
        self.key = handle.id  # which no other hook has
        self.seen: list[tuple[Any, int | None]] = []

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        value = select(output, self.fields, self.name, self.hint)
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
        now = version(value)
        if None not in (before, now) and before != now:
            raise LimbeckError(
                f"tap {self.name!r} was overwritten by an in-place operation after module "
                f"{self.path!r}; build what follows with inplace=False, or tap that instead"
            )
        return value


class Taps:
    """The taps of one model: `with taps: model(x)`, then `taps.read()` by name.

    `others` are signals that are no modules; an error about a name may suggest one.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], others: Iterable[str] = ()) -> None:
        modules, others = modules_of(model), tuple(others)
        self.taps = [Tap(name, modules, others) for name in names]

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
    if dynamo is None or torch.compiler.is_compiling():
        return
    if dynamo.config.skip_nnmodule_hook_guards:
        dynamo.config.skip_nnmodule_hook_guards = False
        torch.compiler.reset()


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


def plain(model: nn.Module) -> nn.Module:
    """The model itself, without what DDP and `torch.compile` wrap around it."""
    wrapped = model._modules.get("_orig_mod")
    if isinstance(model, WRAPPERS):
        wrapped = model.module
    return model if wrapped is None else plain(wrapped)


def locate(
    name: str, modules: Mapping[str, nn.Module], others: Sequence[str] = ()
) -> tuple[str, int | None, tuple[str, ...]]:
    """The longest module path that `name` begins with, its `#call`, and the fields left."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        path, mark, call = ".".join(parts[:length]).partition("#")
        fields = tuple(parts[length:])
        clear = call.isdigit() == bool(mark) and all(fields) and "*" not in name
        if not (path and path in modules and clear) or (fields and runs_not(modules[path])):
            continue
        if runs_not(modules[path]):
            inside = [f"{path}.{child}" for child, _ in modules[path].named_children()]
            kind = type(modules[path]).__name__
            raise LimbeckError(
                f"tap {name!r} is a {kind}, which never runs itself; tap one of {inside}"
            )
        return path, int(call) if mark else None, fields
    paths = [path for path in modules if path]
    hint = (
        close(name, [*others, *paths])
        or f"; there are {[path for path in paths if '.' not in path]}"
    )
    raise LimbeckError(f"tap must name a module of the model, got {name!r}{hint}")


def runs_not(module: nn.Module) -> bool:
    return isinstance(module, nn.ModuleList | nn.ModuleDict)


def select(value: Any, fields: Iterable[str], name: str, hint: str = "") -> Any:
    """A field of a tuple or mapping, of a field, ...; raises LimbeckError with what there is."""
    for field in fields:
        if isinstance(value, Mapping) and field in value:
            value = value[field]
        elif isinstance(value, tuple | list) and field.isdigit() and int(field) < len(value):
            value = value[int(field)]
        elif isinstance(value, tuple) and field in getattr(value, "_fields", ()):
            value = getattr(value, field)
        else:
            what = describe(value)
            raise LimbeckError(f"signal {name!r} has no field {field!r}: it is {what}{hint}")
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


def version(value: Any) -> int | None:
    """How often a tensor was changed in place, where that is counted: not in compiled code."""
    if torch.compiler.is_compiling() or not isinstance(value, Tensor) or value.is_inference():
        return None
    return value._version
