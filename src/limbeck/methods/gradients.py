"""Jacobian matching: models that say how their answer moves with their input."""

from typing import Any

import torch
from torch import Tensor, nn


class InputGradient(nn.Module):
    """A model that returns its logits and the gradient of each sample's true logit by its input.

    Called as `model(x, target)`, it returns `{"logits": (B, C), "gradient": like x}`: wrap student
    and teacher alike, give the distiller `(x, target)` as inputs, and use the student's `.model`
    afterwards. In training the gradient has a gradient itself (double backward), which costs about
    two passes more.

    Args:
        model: from inputs to logits (B, C), each sample by itself.

    Example:
        >>> linear = nn.Linear(3, 2)
        >>> answer = InputGradient(linear)(torch.ones(1, 3), torch.tensor([1]))
        >>> bool((answer["gradient"] == linear.weight[1]).all())
        True
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, target: Tensor) -> dict[str, Any]:
        learns = torch.is_grad_enabled()
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.model(x)
            true = logits.gather(1, target[:, None]).sum()
            (gradient,) = torch.autograd.grad(true, x, create_graph=learns)
        return {"logits": logits if learns else logits.detach(), "gradient": gradient}
