"""The live student, the one that is loaded from its file, and whether they answer alike."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from limbeck.checkpoint import load_weights
from limbeck.errors import LimbeckError
from limbeck.export.code import Code
from limbeck.modes import eagerly, evaluating
from limbeck.taps import describe, plain

TOLERANCE = 1e-4


def live_logits(student: nn.Module, inputs: Tensor, classes: int) -> Tensor:
    """The student's own forward in eval mode, on float32 copies of its tensors on the CPU.

    Nothing of it moves, and neither a device's shortcuts nor its precision blur the comparison.
    """
    student = plain(student)
    tensors = dict(student.named_parameters()) | dict(student.named_buffers())
    copies = {name: on_cpu(tensor) for name, tensor in tensors.items()}
    with torch.no_grad(), evaluating(student), eagerly():
        logits = functional_call(student, copies, (inputs,))
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise LimbeckError(
            f"the student must return logits (images, classes), got {describe(logits)}"
        )
    if logits.shape[1] != classes:
        raise LimbeckError(
            f"the student must have a logit for each class, got {logits.shape[1]} logits for "
            f"{classes} classes"
        )
    return logits


def on_cpu(tensor: Tensor) -> Tensor:
    """A copy on the CPU, float32 where it is a float."""
    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype, copy=True)


def reloaded(path: Path, code: Code, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """A fresh network in eval mode with the weights of a file, and its logits.

    Raises:
        LimbeckError: the weights are of another network; says what fits.
    """
    fresh = code.build()
    try:
        load_weights(fresh, path)
    except LimbeckError as error:
        reason = str(error).replace(str(path), path.name)
        raise LimbeckError(f"{reason}; is {code.model} the student's network?") from error
    fresh.eval()
    with torch.no_grad():
        return fresh, fresh(inputs)


def same_answers(name: str, logits: Tensor, expected: Tensor) -> float:
    """The largest difference of a logit; raises LimbeckError where that is too large."""
    difference = float((logits - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= allowed:
        raise LimbeckError(
            f"{name} must answer like the live student, but a logit differs by {difference:.3g} "
            f"(allowed: {allowed:.3g}); is `model`, with its `options`, the student's network?"
        )
    return difference
