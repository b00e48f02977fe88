"""Watches the loss: a term that is not finite stops the training by name."""

import math

from torch import Tensor, nn

from limbeck.errors import LimbeckError

CURE = "the last checkpoint is whole: lower the learning rate, clip the gradient"


class Watch:
    """Holds the last step's loss and parts as tensors, so that nothing waits for a device.

    A step is judged when the next one has been launched, or when it is logged or saved.
    """

    def __init__(self) -> None:
        self.last: tuple[int, Tensor, dict[str, Tensor]] | None = None

    def see(self, step: int, loss: Tensor, parts: dict[str, Tensor]) -> None:
        """Takes the results of `step`, and judges those of the step before."""
        if self.last is not None:
            self.check()
        self.last = step, loss, parts

    def check(self) -> tuple[float, dict[str, float]]:
        """Loss and parts as numbers.

        Raises:
            LimbeckError: naming the terms that are not finite, and the step.
        """
        assert self.last is not None
        step, loss, parts = self.last
        value = float(loss)
        if not math.isfinite(value):
            bad = {n: float(v) for n, v in parts.items() if not math.isfinite(float(v))}
            terms = ", ".join(f"{name} = {number}" for name, number in bad.items()) or "their sum"
            raise LimbeckError(
                f"the loss must stay finite, got {terms} at step {step}; {CURE}, "
                "or look at that term"
            )
        return value, {name: float(part) for name, part in parts.items()}


def check_weights(model: nn.Module, step: int) -> None:
    """Raises LimbeckError where a loss that was finite left weights that are not."""
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise LimbeckError(f"{name} must stay finite, but is not after step {step}; {CURE}")
