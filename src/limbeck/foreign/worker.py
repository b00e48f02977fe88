"""A process that holds one model of a framework and answers over its pipes.

It is run as a script by the interpreter that has the framework, and needs there nothing but NumPy:
neither torch, which some frameworks crash beside, nor limbeck. The working folder, not this one, is
where it imports from.

A message is the length of its head (8 bytes), the head (JSON) and the bytes of the arrays that the
head lists. The first tells which model; each later one is a batch and the outputs that are wanted.
"""

import importlib
import json
import os
import runpy
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any

import numpy as np

Arrays = Mapping[str, Any]
Told = dict[str, Any]


def send(stream: IO[bytes], head: Told, arrays: Arrays) -> None:
    """Writes a message."""
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    listed = [[name, array.dtype.str, list(array.shape)] for name, array in whole.items()]
    text = json.dumps({**head, "arrays": listed}).encode()
    stream.write(len(text).to_bytes(8, "little") + text)
    for array in whole.values():
        stream.write(array.reshape(-1).view(np.uint8).data)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[Told, dict[str, Any]]:
    """Reads a message; raises EOFError where there is none, or not a whole one."""
    size = int.from_bytes(exactly(stream, 8), "little")
    head = json.loads(exactly(stream, size))
    arrays = {}
    for name, kind, shape in head.pop("arrays"):
        content = exactly(stream, int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize)
        arrays[name] = np.frombuffer(content, kind).reshape(shape)
    return head, arrays


def exactly(stream: IO[bytes], size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    return content


class Keras:
    """A model that Keras saved; its layers' outputs can be asked for by name."""

    def __init__(self, path: str, answer: str | None) -> None:
        self.keras = importlib.import_module("keras")
        self.model = self.keras.models.load_model(path, compile=False)
        self.names = [layer.name for layer in self.model.layers]
        taken, outputs = self.model.inputs[0], self.model.outputs
        if len(self.model.inputs) > 1:
            raise ValueError(f"it has {len(self.model.inputs)} inputs; build one of one input")
        self.shape, self.dtype = list(taken.shape), str(taken.dtype)
        if answer is None and len(outputs) > 1:
            raise ValueError(f"it has {len(outputs)} outputs; say by answer= which layer's it is")
        if answer is not None and answer not in self.names:
            raise ValueError(f"answer must be one of its layers {self.names}, got {answer!r}")
        self.answer = outputs[0] if answer is None else self.output(answer)
        self.asked: dict[tuple[str, ...], Any] = {}

    def versions(self) -> dict[str, str]:
        backend = self.keras.backend.backend()
        found = {"keras": self.keras.__version__, "backend": backend}
        module = sys.modules.get(backend)
        return found if module is None else {**found, backend: module.__version__}

    def output(self, name: str) -> Any:
        return self.model.get_layer(name).output

    def __call__(self, x: Any, wants: Sequence[str]) -> Arrays:
        key = tuple(wants)
        if key not in self.asked:
            outputs = {want: self.answer if want == "output" else self.output(want) for want in key}
            self.asked[key] = self.keras.Model(self.model.inputs, outputs)
        return self.asked[key].predict_on_batch(x)


class Made:
    """What a factory of one's own returns: a function of an array to arrays."""

    names = shape = dtype = None

    def __init__(self, factory: str, answer: str | None) -> None:
        self.call, self.answer = found(factory)(), answer

    def versions(self) -> dict[str, str]:
        known = ("jax", "flax", "tensorflow", "keras", "torch")
        modules = {name: sys.modules.get(name) for name in known}
        return {name: module.__version__ for name, module in modules.items() if module}

    def __call__(self, x: Any, wants: Sequence[str]) -> Arrays:
        result = self.call(x)
        if isinstance(result, Mapping):
            fields = {str(key): value for key, value in result.items()}
        elif isinstance(result, tuple | list):
            fields = {str(k): value for k, value in enumerate(result)}
        else:
            return {"output": result}
        single = next(iter(fields)) if len(fields) == 1 else "output"
        answer = self.answer or single
        if answer not in fields:
            raise KeyError(f"it gives {[*fields]}; say by answer= which is the answer")
        return {**fields, "output": fields[answer]}


def found(name: str) -> Callable[[], Any]:
    """The function that `package.module:name` or `path/file.py:name` says."""
    place, _, attribute = name.rpartition(":")
    if place.endswith(".py"):
        return runpy.run_path(place)[attribute]
    return getattr(importlib.import_module(place), attribute)


def opened(told: Told) -> Keras | Made:
    made = {"keras": Keras, "factory": Made}[told["kind"]]
    return made(told["model"], told["answer"])


def plain(value: Any) -> Any:
    """An array as pipes carry it: bfloat16 and the like in float32."""
    array = np.asarray(value)
    return array if array.dtype.kind in "fiub" else array.astype(np.float32)


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answers until the other side closes the pipe."""
    model: Any = None
    while True:
        try:
            head, arrays = receive(requests)
        except EOFError:
            return
        try:
            if model is None:
                model = opened(head)
                shown = {name: getattr(model, name) for name in ("names", "shape", "dtype")}
                send(answers, {**shown, "versions": model.versions()}, {})
            else:
                result = model(arrays["inputs"], head["wants"])
                wanted = {name: plain(result[name]) for name in head["wants"] if name in result}
                send(answers, {"names": [str(name) for name in result]}, wanted)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
            text = f"{type(error).__name__}: {lines[0].strip()}"
            send(answers, {"error": text, "missing": missing}, {})


def main() -> None:
    """Keeps the pipe for answers; whatever else is printed goes where errors go."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
