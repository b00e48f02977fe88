"""Teachers by one word, as recipes and the command line say them: `onnx:teacher.onnx`."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError, close
from limbeck.foreign.boosters import xgboost
from limbeck.foreign.estimators import sklearn
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.functions import function
from limbeck.foreign.onnx_file import onnx
from limbeck.foreign.openvino_file import openvino
from limbeck.foreign.processes import flax, keras
from limbeck.foreign.spec import Layout, Spec
from limbeck.foreign.torch_file import exported

TAKES = {
    "onnx": ("spec", "answer"),
    "openvino": ("spec", "answer"),
    "exported": ("spec", "answer"),
    "keras": ("spec", "answer", "python"),
    "flax": ("spec", "answer", "python", "version"),
    "function": ("spec", "answer", "version"),
    "sklearn": ("layout", "unsafe_pickle"),
    "xgboost": ("layout", "classes"),
}


def open_teacher(
    name: str,
    spec: Spec | None = None,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
    layout: Layout | None = None,
    classes: Sequence[str] | None = None,
    python: str | None = None,
    version: str | None = None,
    unsafe_pickle: bool | None = None,
    root: Path | None = None,
) -> Foreign:
    """The teacher that `KIND:REST` names.

    | name | spec | further |
    |---|---|---|
    | `onnx:PATH` | given, or in the file's metadata | `answer` |
    | `openvino:PATH`, `exported:PATH` | given | `answer` |
    | `keras:PATH` | given | `answer`, `python` |
    | `flax:package.module:name` | given | `answer`, `python`, `version` |
    | `function:package.module:name` | given | `answer`, `version` |
    | `sklearn:PATH` | what the model says | `layout`, `unsafe_pickle` |
    | `xgboost:PATH` | what the model says | `layout`, `classes` |

    `inputs` and `order` are as for `Foreign`; relative paths are below `root`, by default the
    working folder.

    Raises:
        LimbeckError: an unknown kind, a spec that is missing or that the model says itself, and
            what the kind's own function raises.
    """
    kind, _, rest = name.partition(":")
    if kind not in TAKES or not rest:
        hint = close(kind, TAKES) or f"; the kinds are {', '.join(TAKES)}"
        raise LimbeckError(f"a teacher must be KIND:PATH, got {name!r}{hint}")
    given = {
        "spec": spec,
        "answer": answer,
        "layout": layout,
        "classes": classes,
        "python": python,
        "version": version,
        "unsafe_pickle": unsafe_pickle,
    }
    check(name, TAKES[kind], [key for key, value in given.items() if value is not None])
    path = (Path() if root is None else root) / Path(rest).expanduser()
    flat = layout or "rows"
    match kind:
        case "onnx":
            return onnx(path, spec, inputs=inputs, order=order, answer=answer)
        case "sklearn":
            trusted = bool(unsafe_pickle)
            return sklearn(path, layout=flat, inputs=inputs, order=order, unsafe_pickle=trusted)
        case "xgboost":
            return xgboost(path, classes=classes, layout=flat, inputs=inputs, order=order)
    if spec is None:
        raise LimbeckError(
            f"{name} cannot say what it takes and gives: give output, classes, layout"
        )
    match kind:
        case "openvino":
            return openvino(path, spec, inputs=inputs, order=order, answer=answer)
        case "exported":
            return exported(path, spec, inputs=inputs, order=order, answer=answer)
        case "keras":
            return keras(path, spec, inputs=inputs, order=order, answer=answer, python=python)
        case "flax":
            return flax(
                rest,
                spec,
                inputs=inputs,
                order=order,
                answer=answer,
                python=python,
                version=version,
            )
        case _:
            call = imported(rest)
            return function(call, spec, inputs=inputs, order=order, answer=answer, version=version)


def check(name: str, known: Sequence[str], given: Sequence[str]) -> None:
    """Raises LimbeckError for a setting that this kind of teacher does not have."""
    for setting in given:
        if setting not in known:
            raise LimbeckError(f"{name} takes {list(known)}, not {setting!r}; leave it out")


def imported(name: str) -> Callable[..., Any]:
    """The function that `package.module:name` says."""
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise LimbeckError(
            f"a function must be package.module:name, got {name!r}: {error}"
        ) from error
