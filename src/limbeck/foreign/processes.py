"""Teachers of Keras and JAX, each in a process of its own."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.errors import LimbeckError, close
from limbeck.foreign.files import digest, existing
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.functions import told
from limbeck.foreign.process import Process
from limbeck.foreign.runner import Runner, Takes, as_array
from limbeck.foreign.spec import Spec


def keras(
    path: str | Path,
    spec: Spec,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
    python: str | Path | None = None,
) -> Foreign:
    """A model that Keras saved (`.keras`, `.h5`), in inference mode, on its configured backend.

    Any layer's output is a signal by the layer's name. `Foreign.close` ends the process; so does
    the end of this one.

    Args:
        path: the file.
        spec: what it takes and gives; Keras on TensorFlow has images as `NHWC`.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the layer that gives the answer, if it is not the model's output.
        python: the interpreter that has Keras, by default this one. It needs no torch.

    Raises:
        LimbeckError: no such file, no Keras, and whatever goes wrong in the process, in one line.
    """
    file = existing(path)
    model = {"kind": "keras", "model": str(file.absolute()), "answer": answer}
    identity = {"kind": "keras", "sha256": digest([file]), "answer": answer}
    runner = Remote(f"keras:{path}", model, lambda: identity, python)
    return Foreign(runner, spec, inputs=inputs, order=order)


def flax(
    factory: str,
    spec: Spec,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
    python: str | Path | None = None,
    version: str | None = None,
) -> Foreign:
    """A model of JAX, or of anything else, that a function of yours builds, in its own process.

    The factory takes nothing and returns a function, best compiled, of an array to an array or to a
    mapping of arrays, which are signals by name.

    Args:
        factory: `package.module:name`, or `path/file.py:name`.
        spec: what it takes and gives; Flax has images as `NHWC`.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the field that is the answer, if there are several and none is `"output"`.
        python: the interpreter that has the framework, by default this one. It needs no torch.
        version: says which weights these are; a store needs it, as nothing else can tell.

    Raises:
        LimbeckError: whatever goes wrong in the process, in one line.
    """
    name = f"flax:{factory}"
    model = {"kind": "factory", "model": factory, "answer": answer}
    runner = Remote(name, model, lambda: {"kind": "flax", **told(version, name)}, python)
    return Foreign(runner, spec, inputs=inputs, order=order)


class Remote(Runner):
    """A model in a worker."""

    def __init__(
        self,
        name: str,
        model: Mapping[str, Any],
        identity: Callable[[], dict[str, Any]],
        python: str | Path | None,
    ) -> None:
        self.name, self.same = name, identity
        self.process = Process(name, model, python)
        told = self.process.told
        self.names, shape = told["names"], told["shape"]
        self.takes = Takes(None if shape is None else tuple(shape), told["dtype"])

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        head, found = self.process.ask({"wants": list(wants)}, {"inputs": as_array(inputs)})
        for want in wants:
            if want not in found:
                names = head["names"]
                raise LimbeckError(f"{self.name} gives {names}, got {want!r}{close(want, names)}")
        return found

    def identity(self) -> dict[str, Any]:
        return {**self.same(), "versions": self.process.told["versions"]}

    def close(self) -> None:
        self.process.close()
