"""Golden entries against limbeck: values and gradients of losses, computed by others.

    python tests/golden/harness.py FILE.json [FILE.json ...]

prints a line for each entry that fails or whose method is unknown, and a total last; exits 1 if
any failed. A method joins by its line in the `METHODS` of a family's file, `golden_FAMILY.py`.
"""

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))  # so that it runs as a script and inside pytest

import golden_dense
import golden_feature
import golden_first
import golden_logit
import golden_online
import golden_relation
import golden_teachers
import golden_token
from golden_calls import Method

Array = NDArray[Any]


def make(spec: Mapping[str, Any], done: Mapping[str, Array]) -> Array:
    """One input array, as either file describes it."""
    kind = spec["kind"]
    shape = done[spec["of"]].shape if kind.startswith("copy") else spec.get("shape")
    scale = spec.get("scale", 1.0)
    rng = np.random.default_rng(spec.get("rng_seed"))
    match kind:
        case "literal":
            x = np.array(spec["value"], dtype=spec.get("dtype", "float64"))
        case "zeros" | "constant":
            x = np.full(shape, float(spec.get("value", 0)))
        case "lengths":
            x = (np.arange(shape[1]) < np.array(spec["lengths"])[:, None]).astype(float)
        case "copy":
            x = done[spec["of"]] * scale
        case "copy_plus_normal":
            x = done[spec["of"]] + rng.standard_normal(shape) * scale
        case "integers":
            x = rng.integers(spec["low"], spec["high"], shape)
        case "uniform":
            x = rng.random(shape) * (spec["high"] - spec["low"]) + spec["low"]
        case "orthogonal":
            q, r = np.linalg.qr(rng.standard_normal((max(shape), min(shape))))
            q = q * np.sign(np.diag(r))
            x = q if shape[0] >= shape[1] else q.T
        case "normal" | "relu_normal" | "unit_rows" | "softmax_rows":
            x = _shaped(kind, rng.standard_normal(shape) * scale + spec.get("shift", 0.0))
        case _:
            raise ValueError(f"unknown kind of input {kind!r}")
    for source, target in spec.get("copy_rows", []):
        x[target] = x[source]
    for change in spec.get("set", []):
        x[tuple(change["index"])] = change["value"]
    return x


def _shaped(kind: str, x: Array) -> Array:
    if kind == "relu_normal":
        return np.maximum(x, 0)
    if kind == "unit_rows":
        return x / np.linalg.norm(x, axis=-1, keepdims=True)
    if kind == "softmax_rows":
        e = np.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)
    return x


def build(specs: Mapping[str, Mapping[str, Any]]) -> dict[str, Array]:
    """All inputs of an entry, each held to its checksum."""
    done: dict[str, Array] = {}
    for name, spec in specs.items():
        done[name] = x = make(spec, done)
        if "sum" in spec and not abs(x.sum() - spec["sum"]) <= 1e-9 * max(1.0, np.abs(x).sum()):
            raise ValueError(f"input {name} sums to {x.sum()}, expected {spec['sum']}")
    return done


METHODS: dict[str, Method] = (
    golden_first.METHODS
    | golden_dense.METHODS
    | golden_feature.METHODS
    | golden_logit.METHODS
    | golden_online.METHODS
    | golden_relation.METHODS
    | golden_teachers.METHODS
    | golden_token.METHODS
)


def evaluate(
    entry: Mapping[str, Any], dtype: torch.dtype = torch.float64
) -> tuple[float, dict[str, Array]]:
    """limbeck's value of an entry, and its gradients by input name."""
    inputs = {name: torch.from_numpy(x) for name, x in build(entry["inputs"]).items()}
    inputs = {name: x.to(dtype) if x.is_floating_point() else x for name, x in inputs.items()}
    wanted = entry.get("house_grad") or {}
    names = [name for name in inputs if name in wanted or name.startswith(("student", "net"))]
    leaves = [inputs[name].requires_grad_() for name in names]
    value = METHODS[entry["method"]](inputs, entry.get("params", {}))
    grads = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return value.item(), {name: g.numpy() for name, g in zip(names, grads, strict=True)}


def failures(entry: Mapping[str, Any]) -> Iterator[str]:
    """What differs from the entry, in words: quantity, what came, what is right."""
    value, grads = evaluate(entry)
    others = [other["value"] for other in entry.get("also_acceptable", [])]
    rtol = entry.get("rtol", 1e-9)
    house = entry["house_value"]
    if not any(abs(value - right) <= 1e-12 + rtol * abs(right) for right in (house, *others)):
        yield f"value: got {value!r}, expected {house!r}"
    for name, right in (entry.get("house_grad") or {}).items():
        yield from _grad_failures(f"grad {name}", grads[name], right, entry.get("rtol", 0.0))


def _grad_failures(what: str, got: Array, right: Any, rtol: float) -> Iterator[str]:
    """`rtol` is an entry's own; without one, 1e-7 of the norm and 1e-10 an element."""
    if not np.isfinite(got).all():
        yield f"{what}: got {np.count_nonzero(~np.isfinite(got))} non-finite, expected finite"
        return
    if right == "finite":
        return
    if "shape" in right and list(got.shape) != right["shape"]:
        yield f"{what} shape: got {list(got.shape)}, expected {right['shape']}"
        return
    flat = got.ravel()
    entries = list(enumerate(right["full"])) if "full" in right else right.get("entries", [])
    largest = right.get("max_abs", max((abs(x) for _, x in entries), default=0.0))
    each = 1e-10 * max(1.0, largest) + rtol * largest
    pairs = [(f"[{i}]", flat[i], x, each) for i, x in entries]
    if "max_abs" in right:
        pairs.append((" max_abs", np.abs(flat).max(), right["max_abs"], each))
    if "l2" in right or "full" in right:
        l2 = right.get("l2", math.hypot(*right.get("full", [])))
        pairs.append((" l2", np.linalg.norm(flat), l2, 1e-12 + max(1e-7, rtol) * l2))
    for part, x, expected, tolerance in pairs:
        if not abs(x - expected) <= tolerance:
            yield f"{what}{part}: got {float(x)!r}, expected {expected!r}"


def load(path: Path) -> list[dict[str, Any]]:
    """The entries of a file."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return data["fixtures"] if isinstance(data, dict) else data


def judge(entry: Mapping[str, Any]) -> str:
    """Empty for an entry that passes, or what is wrong with it."""
    try:
        found = list(failures(entry))
    except Exception as error:  # an entry that cannot run must not hide the others
        return f"{type(error).__name__}: {error}"
    return found[0] + (f" (and {len(found) - 1} more)" if found[1:] else "") if found else ""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare limbeck with golden entries.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json")
    entries = [entry for path in parser.parse_args(arguments).files for entry in load(path)]
    passed = failed = unknown = 0
    for entry in entries:
        name = entry.get("fixture_id", entry["method"])
        if entry["method"] not in METHODS:
            unknown += 1
            print(f"{name}: unknown method {entry['method']!r}")
        elif problem := judge(entry):
            failed += 1
            print(f"{name}: {problem}")
        else:
            passed += 1
    print(f"{len(entries)} entries: {passed} passed, {failed} failed, {unknown} unknown")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
