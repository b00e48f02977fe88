"""Teachers in OpenVINO's files, or in any that it reads."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.checkpoint import first_line
from limbeck.errors import LimbeckError, need
from limbeck.foreign.files import digest, existing
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.runner import Runner, Takes, as_array, chosen
from limbeck.foreign.spec import Spec

TYPES = {
    "f32": "float32",
    "f16": "float16",
    "f64": "float64",
    "u8": "uint8",
    "i32": "int32",
    "i64": "int64",
}


def openvino(
    path: str | Path,
    spec: Spec,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
) -> Foreign:
    """A teacher in OpenVINO's format (`.xml` beside `.bin`) with one input, or in an ONNX file.

    It computes in float32 with as many threads as torch: left to itself, OpenVINO takes bfloat16
    where the processor has it.

    Args:
        path: the file.
        spec: what it takes and gives.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the output that is the answer, if there are several: its name, or its number.

    Raises:
        LimbeckError: no such file, one that OpenVINO refuses, several inputs.
    """
    return Foreign(OpenVinoFile(existing(path), answer), spec, inputs=inputs, order=order)


class OpenVinoFile(Runner):
    """A model that OpenVINO compiled for the CPU."""

    def __init__(self, path: Path, answer: str | None) -> None:
        library = need("openvino", "openvino")
        self.version = library.__version__
        self.path, self.name = path, f"openvino:{path}"
        try:
            self.model = library.Core().compile_model(str(path), "CPU", setting("f32"))
        except RuntimeError as error:
            raise LimbeckError(f"{path} cannot be run: {first_line(error)}") from error
        if len(self.model.inputs) != 1:
            raise LimbeckError(f"{self.name} must have one input, got {len(self.model.inputs)}")
        taken = self.model.inputs[0]
        self.takes = Takes(shape_of(taken), TYPES.get(taken.element_type.get_type_name()))
        self.names = tuple(label(output, k) for k, output in enumerate(self.model.outputs))
        self.answer = chosen(self.names, answer, self.name)

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        try:
            found = self.model(as_array(inputs)).to_tuple()
        except RuntimeError as error:
            raise LimbeckError(f"{self.name} failed: {first_line(error)}") from error
        outputs = dict(zip(self.names or (), found, strict=True))
        return {**outputs, "output": outputs[self.answer]}

    def identity(self) -> dict[str, Any]:
        weights = self.path.with_suffix(".bin")
        beside = [weights] if self.path.suffix == ".xml" and weights.is_file() else []
        digests = digest([self.path, *beside])
        return {
            "kind": "openvino",
            "sha256": digests,
            "answer": self.answer,
            "openvino": self.version,
        }


def setting(precision: str) -> dict[str, str]:
    """How OpenVINO compiles: in this precision, with as many threads as torch."""
    return {
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
    }


def shape_of(taken: Any) -> tuple[int | None, ...] | None:
    """The shape of an input, None for a size that is free, and for all where even the rank is."""
    shape = taken.partial_shape
    if shape.rank.is_dynamic:
        return None
    return tuple(None if size.is_dynamic else size.get_length() for size in shape)


def label(output: Any, number: int) -> str:
    """An output's first name, or its number."""
    return min(output.names, default=str(number))
