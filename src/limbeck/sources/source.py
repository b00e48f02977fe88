"""What every source can do."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.signals import Batch, Signals


class Source:
    """Turns a batch into signals; owns nothing that trains with the student.

    An `early` source runs before the student: what it needed is free again when the student's
    activations come, but it cannot see the student's signals. One that `moves` changes with
    training: it must be advanced before each step, or training is refused. With one that keeps
    students `apart`, each rank trains a student of its own. One that is `through` carries the
    gradient of the student's signals that it reads; of all others a match detaches the signals.
    """

    early = False
    moves = False
    apart = False
    through = False

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        """The wanted signals of this batch."""
        raise TypeError(f"{type(self).__name__} must be callable on a batch")

    def check(self, wants: Sequence[str]) -> None:
        """Raises LimbeckError for a signal that this source cannot give."""

    def reads(self, wants: Sequence[str]) -> list[str]:
        """The student's signals from which the wanted ones are made."""
        return []

    def modules(self) -> list[nn.Module]:
        """The models inside, which follow the distiller from device to device."""
        return []

    def to(self, device: torch.device) -> None:
        """Moves the models inside; their precision stays."""
        for module in self.modules():
            module.to(device)

    def advance(self, progress: float) -> None:
        """Told before every step, with the progress of training in [0, 1]."""

    def state_dict(self) -> dict[str, Tensor]:
        """What resuming needs, a copy; a frozen source has nothing."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restores what `state_dict` returned."""
