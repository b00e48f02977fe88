"""A torch network that OpenVINO runs."""

from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.checkpoint import first_line
from limbeck.errors import LimbeckError, need
from limbeck.foreign.foreign import own
from limbeck.foreign.openvino_file import setting
from limbeck.foreign.runner import as_array
from limbeck.modes import evaluating

HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenVinoModule(nn.Module):
    """The answers of a network in eval mode, computed by OpenVINO on the CPU.

    The network stays inside, for its weights and its name; its modules do not run, so that there is
    nothing to tap. It answers float32 logits (B, C) of inputs as `inputs`, in any batch size.

    Args:
        model: the network, in float32.
        inputs: what it takes (B, ...), at least two.
        precision: in which OpenVINO computes.

    Raises:
        LimbeckError: no OpenVINO, or a network that torch.export or OpenVINO refuses.
    """

    def __init__(
        self, model: nn.Module, inputs: Tensor, precision: Literal["float32", "bfloat16"]
    ) -> None:
        super().__init__()
        library = need("openvino", "openvino")
        self.version: str = library.__version__
        self._orig_mod = model  # the name that is looked through, as for torch.compile
        free = ({0: torch.export.Dim.AUTO},)
        with torch.no_grad(), evaluating(model):
            try:
                program = torch.export.export(model, (inputs,), dynamic_shapes=free)
                converted = library.convert_model(program)
                config = setting(HINTS[precision])
                self.run = library.Core().compile_model(converted, "CPU", config)
            except Exception as error:  # torch.export and OpenVINO have a dozen kinds
                raise LimbeckError(
                    f"OpenVINO cannot run {type(model).__name__}: {first_line(error)}"
                ) from error

    def forward(self, x: Tensor) -> Tensor:
        answer = self.run(as_array(x)).to_tuple()[0]
        return own(answer, "openvino").to(x.device)
