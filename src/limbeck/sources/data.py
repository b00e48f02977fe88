"""What sources read of the data, checked."""

from collections.abc import Sequence

from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.signals import Batch


def told(batch: Batch, names: Sequence[str], who: str) -> list[Tensor]:
    """These signals of the data; raises LimbeckError with those that are missing."""
    missing = [name for name in names if name not in batch.data]
    if missing:
        how = " and ".join(f"{name}=" for name in missing)
        raise LimbeckError(f"{who} needs {missing} in the data; pass {how}")
    return [batch.data[name] for name in names]


def within(name: str, values: Tensor, limit: int) -> Tensor:
    """Integers in 0 ... limit - 1, on the CPU; raises LimbeckError for others."""
    values = values.cpu()
    if bool(((values < 0) | (values >= limit)).any()):
        raise LimbeckError(f"{name} must be in 0..{limit - 1}, got {values.tolist()}")
    return values
