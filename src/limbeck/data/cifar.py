"""CIFAR-10 (Krizhevsky 2009) from its pickled batches, without trusting the pickles."""

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import LimbeckError

FOLDER = "cifar-10-batches-py"
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def latin1(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes into an old pickle; no other codec is let in."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"codec {encoding}")
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("_codecs", "encode"): latin1,
}


class ArraysOnly(pickle.Unpickler):
    """Reads containers, strings, numbers and NumPy arrays; refuses everything that could run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ADMITTED[module, name]


def cifar10(part: str, folders: list[Path]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 3, 32, 32) and labels int64 (N,) from the first folder that has them."""
    for folder in folders:
        if (folder / BATCHES[part][0]).is_file():
            batches = [read_batch(folder / name) for name in BATCHES[part]]
            images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
            return torch.from_numpy(images.reshape(-1, 3, 32, 32)), torch.from_numpy(labels)
    raise LimbeckError(
        f"cifar10 must be a folder with {BATCHES[part][0]}, looked in "
        f"{', '.join(map(str, folders))}; name a folder as cifar10:{part}@PATH or ask for "
        f"cifar10:{part}@download"
    )


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 (N, 3072) and labels int64 (N,) of one batch."""
    try:
        batch = ArraysOnly(io.BytesIO(path.read_bytes()), encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], dtype=np.uint8)
        labels = np.asarray(batch[b"labels"], dtype=np.int64)
    except FileNotFoundError as error:
        raise LimbeckError(f"{path} is missing, the other batches are there") from error
    except Exception as error:
        raise LimbeckError(f"{path} must be a batch of CIFAR-10, refused: {error}") from error
    if pixels.shape != (len(labels), 3072):
        raise LimbeckError(f"{path} must hold 3072 bytes an image, got {pixels.shape}")
    return pixels, labels
