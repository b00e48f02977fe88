"""Watches the loss: a term that is not finite stops the training by name."""

import math

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.train.ranks import Ranks

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


def check_weights(model: nn.Module, step: int, ranks: Ranks) -> None:
    """Raises LimbeckError, on all ranks, where a finite loss left weights that are not finite."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    bad = [i for i, each in enumerate(parameters, 1) if not bool(held(each).isfinite().all())]
    worst = ranks.any(bad[0] if bad else 0)
    if worst:
        raise LimbeckError(
            f"{names[worst - 1]} must stay finite, but is not after step {step}; {CURE}"
        )


def held(parameter: Tensor) -> Tensor:
    """What this rank holds of a parameter."""
    own = getattr(parameter.detach(), "to_local", None)  # of a DTensor
    return parameter if own is None else own()
