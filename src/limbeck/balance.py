"""Balance: a weight that is found on the first batch instead of chosen."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class Balance:
    """A weight with which a term starts as large as a fraction of what it is balanced against.

    factor = fraction * (sum of the weighted terms that are not balanced) / (value of the term),

    all on the batch of `distiller.prepare`, each model in the mode that it is in. From then on the
    factor is a constant: a buffer of the objective, saved and resumed with it. Several ranks take
    the mean of their values, so all of them must prepare.

    A number times a balanced term scales the fraction; a number times a sum that holds both the
    term and what it is balanced against changes neither.

    Args:
        fraction: above 0; 0.1 to 2 is usual.

    Raises:
        ValueError: a fraction that is not positive and finite.
        LimbeckError: from the distiller, where every term is balanced; from `prepare`, where the
            term or what it is balanced against is not positive and finite; from the distiller's
            call, before `prepare`.

    Example:
        >>> from limbeck import Distiller, Match, losses, truth
        >>> objective = truth() + Balance(0.5) * Match(losses.hint)
        >>> distiller = Distiller(nn.Linear(4, 3), nn.Linear(4, 3), objective)
        >>> x, y = torch.randn(8, 4), torch.arange(8) % 3
        >>> distiller.prepare(x, target=y)
        >>> parts = distiller(x, target=y).parts
        >>> round(float(parts["hint"] / parts["truth"]), 4)
        0.5
    """

    fraction: float

    def __post_init__(self) -> None:
        if not 0 < self.fraction < math.inf:
            raise ValueError(f"fraction must be positive and finite, got {self.fraction}")


class Factor(nn.Module):
    """What a balanced term is multiplied by, from the first batch on."""

    def __init__(self, setting: Balance, name: str) -> None:
        super().__init__()
        self.setting, self.name, self.known = setting, name, False
        self.register_buffer("current", torch.tensor(math.nan))

    def __call__(self) -> Tensor:
        if not self.known:
            raise LimbeckError(
                f"{self.name} is balanced, but has no factor yet; "
                "call distiller.prepare(inputs, target=...) first"
            )
        return self.current

    def find(self, value: float, rest: float) -> None:
        """Sets the factor, once, by the value of the term and that of what it is balanced with."""
        if self.known:
            return
        for what, found in ((self.name, value), (f"what {self.name} is balanced with", rest)):
            if not 0 < found < math.inf:
                raise LimbeckError(
                    f"{what} must be positive and finite on the first batch, got {found}; prepare "
                    f"with a batch where it is (one with labels), or give {self.name} a weight"
                )
        self.current.fill_(self.setting.fraction * rest / value)
        self.known = True

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Factor":
        """Follows the model from device to device, and stays in single precision."""
        exact = self.current
        super()._apply(fn, recurse)
        if not exact.is_meta:
            self.current = exact.to(self.current.device)
        return self

    def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
        super()._load_from_state_dict(*args, **options)
        self.known = not bool(self.current.isnan())
