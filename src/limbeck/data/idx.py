"""Fashion-MNIST in the idx format of MNIST (Xiao et al. 2017, arXiv:1708.07747)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
from torch import Tensor

from limbeck.errors import LimbeckError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
PREFIXES = {"train": "train", "test": "t10k"}
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


def fashion_mnist(part: str, folders: list[Path]) -> tuple[Tensor, Tensor]:
    """Images uint8 (N, 1, 28, 28) and labels int64 (N,) from the first folder that has them."""
    prefix = PREFIXES[part]
    for folder in folders:
        if (folder / f"{prefix}-images-idx3-ubyte.gz").is_file():
            images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz", 3)
            labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", 1)
            return images[:, None], labels.long()
    raise LimbeckError(
        f"fashion-mnist must be a folder with {prefix}-images-idx3-ubyte.gz, looked in "
        f"{', '.join(map(str, folders))}; install the Debian package dataset-fashion-mnist, name a "
        f"folder as fashion-mnist:{part}@PATH or ask for fashion-mnist:{part}@download"
    )


def read_idx(path: Path, dimensions: int) -> Tensor:
    """A gzipped idx file of unsigned bytes with that many dimensions."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise LimbeckError(f"{path} must be a gzipped idx file, it is damaged ({error})") from error
    header, body = content[: 4 + 4 * dimensions], content[4 + 4 * dimensions :]
    if not header.startswith(bytes([0, 0, 8, dimensions])) or len(header) != 4 + 4 * dimensions:
        raise LimbeckError(f"{path} must be an idx file of {dimensions} dimensions of bytes")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if len(body) != math.prod(shape):
        raise LimbeckError(f"{path} must hold {math.prod(shape)} bytes, got {len(body)}")
    return torch.frombuffer(bytearray(body), dtype=torch.uint8).view(shape)
