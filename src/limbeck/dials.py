"""Dials: what terms and their keywords are set to, as modules that a distiller moves and saves."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.balance import Balance, Factor
from limbeck.errors import LimbeckError
from limbeck.schedules import Schedule, scale

Weight = float | Schedule | Balance


class Dial(nn.Module):
    """A number that may follow a schedule of training progress."""

    def __init__(self, setting: float | Schedule) -> None:
        super().__init__()
        if not isinstance(setting, int | float | Schedule):
            raise TypeError(f"a weight must be a number, a schedule or a Balance, got {setting!r}")
        self.setting = setting
        self.fixed = self.advanced = isinstance(setting, int | float)
        if not isinstance(setting, int | float):
            self.value = float(setting(0.0))
            current = torch.tensor(self.value, dtype=torch.float32)
            self.register_buffer("current", current, persistent=False)

    def __call__(self) -> Any:
        return self.setting if self.fixed else self.current

    def advance(self, progress: float) -> None:
        if not isinstance(self.setting, int | float):
            self.value = float(self.setting(progress))
            self.current.fill_(self.value)
            self.advanced = True

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Dial":
        """Follows the model from device to device, and stays in single precision."""
        super()._apply(fn, recurse)
        if not isinstance(self.setting, int | float):
            self.current = torch.full_like(self.current, self.value, dtype=torch.float32)
        return self


def dial(setting: Weight, name: str) -> Dial | Factor:
    """The weight of the term `name`."""
    return Factor(setting, name) if isinstance(setting, Balance) else Dial(setting)


def product(a: Weight, b: Weight) -> Weight:
    """A number times a number, a schedule or a balance; two of the latter have no one reading."""
    if isinstance(b, int | float):
        a, b = b, a
    if not isinstance(a, int | float):
        raise LimbeckError(
            f"a weight may be one schedule or balance, got {kind(a)} times {kind(b)}; leave one out"
        )
    return Balance(a * b.fraction) if isinstance(b, Balance) else scale(b, a)


def kind(weight: Weight) -> str:
    return "a balance" if isinstance(weight, Balance) else "a schedule"


def is_schedule(value: Any) -> bool:
    return isinstance(value, Schedule) and not isinstance(value, type | Tensor)
