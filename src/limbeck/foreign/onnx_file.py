"""Teachers in ONNX files, run by ONNX Runtime."""

import json
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
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def onnx(
    path: str | Path,
    spec: Spec | None = None,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
) -> Foreign:
    """A teacher in an ONNX file with one input; the graph's other outputs are signals, too.

    Args:
        path: the file.
        spec: what it takes and gives; without one, what its metadata say under `limbeck`.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the output that is the answer, if there are several.
        providers: of ONNX Runtime, the preferred one first. It has as many threads as torch.

    Raises:
        LimbeckError: no such file, one that ONNX Runtime refuses, no spec, several inputs.
    """
    runner = OnnxFile(existing(path), answer, providers)
    return Foreign(runner, spec or runner.told(), inputs=inputs, order=order)


class OnnxFile(Runner):
    """A session of ONNX Runtime."""

    def __init__(self, path: Path, answer: str | None, providers: Sequence[str]) -> None:
        runtime = need("onnxruntime", "onnx")
        self.version = runtime.__version__
        options = runtime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        self.path, self.name = path, f"onnx:{path}"
        try:
            self.session = runtime.InferenceSession(path, options, providers=list(providers))
        except Exception as error:  # ONNX Runtime has many kinds, and no base for them
            raise LimbeckError(f"{path} cannot be run as ONNX: {first_line(error)}") from error
        self.input = self.only_input()
        shape = tuple(map(fixed, self.input.shape or ()))
        self.takes = Takes(shape or None, TYPES.get(self.input.type))
        self.names = [output.name for output in self.session.get_outputs()]
        self.answer = chosen(self.names, answer, self.name)

    def only_input(self) -> Any:
        inputs = self.session.get_inputs()
        if len(inputs) != 1:
            raise LimbeckError(
                f"{self.name} must have one input, got {[each.name for each in inputs]}; export it "
                "with the others as constants"
            )
        return inputs[0]

    def told(self) -> Spec:
        """The spec in the file's metadata."""
        metadata = self.session.get_modelmeta().custom_metadata_map
        if "limbeck" not in metadata:
            raise LimbeckError(
                f"{self.name} does not say what it takes and gives: give Spec(output, classes, "
                "layout)"
            )
        try:
            return Spec.from_json(json.loads(metadata["limbeck"]))
        except (KeyError, TypeError, ValueError) as error:
            raise LimbeckError(
                f"{self.name}: its metadata under `limbeck` must be Spec(...).as_json(): {error}"
            ) from error

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        names = [self.answer if want == "output" else want for want in wants]
        try:
            found = self.session.run(names, {self.input.name: as_array(inputs)})
        except Exception as error:  # as above
            raise LimbeckError(f"{self.name} failed: {first_line(error)}") from error
        return dict(zip(wants, found, strict=True))

    def identity(self) -> dict[str, Any]:
        digests = digest([self.path, *outside(self.path)])
        return {
            "kind": "onnx",
            "sha256": digests,
            "answer": self.answer,
            "onnxruntime": self.version,
        }


def fixed(size: Any) -> int | None:
    """A dimension of an ONNX shape, None where it is free."""
    return size if isinstance(size, int) else None


def outside(path: Path) -> list[Path]:
    """The files in which an ONNX file keeps its large tensors."""
    onnx = need("onnx", "onnx")
    graph = onnx.load(path, load_external_data=False).graph
    places = {
        entry.value
        for tensor in graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / place for place in sorted(places)]
