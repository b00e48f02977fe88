"""ONNX: written by torch's exporter, run by onnxruntime."""

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError, need
from limbeck.export.student import same_answers

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
BATCHES = (1, 3)


def write_onnx(network: nn.Module, inputs: Tensor, path: Path) -> None:
    """A network in eval mode as one file: `images` (batch, C, H, W) to `logits` (batch, classes).

    Raises:
        LimbeckError: a package that is missing, a forward that cannot be exported.
    """
    for package in PACKAGES:
        need(package, "onnx")
    try:
        torch.onnx.export(
            network,
            (inputs,),
            path,
            dynamo=True,
            verbose=False,
            external_data=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise LimbeckError(
            f"the student could not be written as ONNX: {reason}; export it with onnx=False"
        ) from error


def check_onnx(path: Path, inputs: Tensor, expected: Tensor) -> dict[str, float]:
    """The largest difference of a logit to `expected`, for batches of several sizes."""
    runtime = need("onnxruntime", "onnx")
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    differences = {}
    for rows in BATCHES:
        (logits,) = session.run(["logits"], {"images": inputs[:rows].numpy()})
        name = f"{path.stem}.onnx at batch {rows}"
        differences[f"onnx, batch {rows}"] = same_answers(
            name, torch.from_numpy(logits), expected[:rows]
        )
    return differences
