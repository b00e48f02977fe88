"""Teachers in files that torch itself wrote, with their code: torch.export and TorchScript."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checkpoint import gave
from limbeck.errors import LimbeckError
from limbeck.foreign.files import digest, existing
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.runner import Runner, Takes, named
from limbeck.foreign.spec import Spec


def exported(
    path: str | Path,
    spec: Spec,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
) -> Foreign:
    """A teacher that was saved with its code: `.pt2` of `torch.export`, else TorchScript.

    The fields of a dictionary that it returns are signals, those of a tuple by number. It runs on
    the batch's device and follows the distiller. What torch.export fixed in training mode stays so:
    export it after `.eval()`; `probe` finds one that draws at random.

    Args:
        path: the file.
        spec: what it takes and gives.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the field that is the answer, if there are several.

    Raises:
        LimbeckError: no such file, or one that torch cannot read.
    """
    return Foreign(TorchFile(existing(path), answer), spec, inputs=inputs, order=order)


class TorchFile(Runner):
    """A module that came with its code."""

    def __init__(self, path: Path, answer: str | None) -> None:
        self.path, self.answer, self.name = path, answer, f"exported:{path}"
        try:
            self.module, self.takes = program(path) if path.suffix == ".pt2" else script(path)
        except Exception as error:  # zip, pickle, schema, flatbuffers: whatever is wrong inside
            raise LimbeckError(
                f"{path} must be of torch.export.save (.pt2) or torch.jit.save: {gave(error)}"
            ) from error

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        try:
            result = self.module(inputs.clone())
        except (RuntimeError, AssertionError) as error:
            raise LimbeckError(f"{self.name} failed: {last_line(error)}") from error
        return named(result, self.answer, self.name)

    def identity(self) -> dict[str, Any]:
        return {
            "kind": "exported",
            "sha256": digest([self.path]),
            "answer": self.answer,
            "torch": torch.__version__,
        }

    def modules(self) -> list[nn.Module]:
        return [self.module]


def program(path: Path) -> tuple[nn.Module, Takes]:
    """A program of torch.export, and the shape of its one input."""
    exported = torch.export.load(path)
    names = exported.graph_signature.user_inputs
    if len(names) != 1:
        raise ValueError(f"{len(names)} inputs instead of one")
    (example,) = (node.meta["val"] for node in exported.graph.nodes if node.name in names)
    shape = tuple(size if isinstance(size, int) else None for size in example.shape)
    return exported.module(), Takes(shape, str(example.dtype).removeprefix("torch."))


def script(path: Path) -> tuple[nn.Module, Takes]:
    """A module of TorchScript, in eval mode."""
    with warnings.catch_warnings(action="ignore"):
        return Scripted(torch.jit.load(path, map_location="cpu").eval()), Takes()


class Scripted(nn.Module):
    """A module of TorchScript inside a plain one, whose parts can be looked at."""

    def __init__(self, script: nn.Module) -> None:
        super().__init__()
        self.script = script

    def forward(self, x: Tensor) -> Any:
        return self.script(x)


def last_line(error: BaseException) -> str:
    """The line that says what went wrong, behind TorchScript's own traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
