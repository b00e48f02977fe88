"""What every codec can do: a signal's rows as arrays to store, and back."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError

Arrays = Mapping[str, NDArray[Any]]
Draws = Callable[[int], NDArray[np.float64]]  # n -> uniform numbers in [0, 1), (R, n)
Shape = tuple[int, ...]


class Coded(NamedTuple):
    """Rows that are arrays already: what they are, the shape of one, what coding has lost."""

    arrays: Arrays
    shape: Shape
    error: dict[str, float]


class Codec:
    """Rows of a signal to rows of arrays and back; a frozen dataclass, whose fields are settings.

    R rows: samples in a view, or tokens. `shape` is that of one row. Every array has R rows, so
    that any rows can be read alone.
    """

    name: ClassVar[str]
    gives: ClassVar[tuple[str, ...]] = ("",)
    masks: ClassVar[bool] = False  # whether -inf comes back as it was

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        """The arrays that hold rows (R, *shape), which are float32."""
        raise TypeError(f"{type(self).__name__} must encode")

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        """What is left of the rows, by the ends that the signal's name gets: those in `gives`."""
        raise TypeError(f"{type(self).__name__} must decode")

    def bytes(self, shape: Shape) -> float:
        """Bytes of a row."""
        return sum(array.nbytes for array in self.encode(torch.zeros(1, *shape), zeros).values())

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        """What decoding has lost of the rows: numbers of which a shard keeps mean and maximum."""
        return {}

    def check(self, shape: Shape) -> None:
        """Raises LimbeckError for a signal that this codec is not for."""


def zeros(n: int) -> NDArray[np.float64]:
    return np.zeros((1, n))


def classes(name: str, shape: Shape) -> None:
    """Raises LimbeckError unless the last axis can be one of classes."""
    if not shape or shape[-1] < 2:
        raise LimbeckError(
            f"codec {name!r} is for outputs with at least 2 classes on the last axis, got rows of "
            f"{shape}"
        )
