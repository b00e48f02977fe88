"""Folders in the layout of torchvision's ImageFolder: one sub-folder for each class."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from limbeck.data.files import Files, scan
from limbeck.data.images import Images, listed
from limbeck.errors import LimbeckError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}
MEMORY = 1 << 30


def open_folder(
    path: Path, *, image_size: int | None = None, skip_corrupt: bool = False, memory: int = MEMORY
) -> Images:
    """The images below `path/<class>/`, classes in the order of their sorted names.

    Other file types and hidden names are passed over. A set of at most `memory` decoded bytes is
    decoded at once and kept; a larger one is decoded batch by batch. Either way `fetch` gives the
    evaluation view in `image_size`; a random resized crop cuts from the kept view in the first
    case and from the whole image in the second.

    An unreadable image is an error that names it; with `skip_corrupt` all are decoded once, and
    the unreadable ones are left out and listed in `skipped`.
    """
    classes = class_names(path)
    found = [(name, i) for i, c in enumerate(classes) for name in sorted(files_below(path, c))]
    files = Files(path, tuple(name for name, _ in found), image_size)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    require_every_class(path, classes, labels)
    skipped: tuple[Path, ...] = ()
    if skip_corrupt:
        files, labels, skipped = readable(files, labels)
        require_every_class(path, classes, labels)
    return Images(held(files, memory), labels, classes, skipped)


def readable(files: Files, labels: Tensor) -> tuple[Files, Tensor, tuple[Path, ...]]:
    """The files that decode, their labels, and the paths of the others."""
    broken = scan(files)
    kept = torch.tensor(sorted(set(range(len(files))) - set(broken)), dtype=torch.int64)
    return files.subset(kept.tolist()), labels[kept], tuple(files.path(i) for i in broken)


def held(files: Files, memory: int) -> Tensor | Files:
    """Decoded pixels if they fit in `memory` bytes, else the files."""
    return files.load() if decoded_bytes(files) <= memory else files


def class_names(path: Path) -> tuple[str, ...]:
    if not path.is_dir():
        there = "is a file" if path.exists() else "does not exist"
        raise LimbeckError(f"folder must hold one sub-folder for each class, {path} {there}")
    names = sorted(entry.name for entry in os.scandir(path) if entry.is_dir() and shown(entry.name))
    if not names:
        raise LimbeckError(f"folder must hold one sub-folder for each class, {path} has none")
    if {name.lower() for name in names} <= SPLITS:
        raise LimbeckError(
            f"folder must hold classes, {path} holds splits ({listed(names)}); "
            f"name one of them: folder:{path / names[0]}"
        )
    return tuple(names)


def files_below(root: Path, name: str) -> Iterator[str]:
    """Image files of a class, at any depth, as paths relative to `root`."""
    for folder, folders, files in os.walk(root / name, followlinks=True):
        folders[:] = [f for f in folders if shown(f)]
        below = Path(folder).relative_to(root)
        yield from (str(below / f) for f in files if shown(f) and f.lower().endswith(EXTENSIONS))


def shown(name: str) -> bool:
    return not name.startswith(".")


def require_every_class(path: Path, classes: tuple[str, ...], labels: Tensor) -> None:
    counts = torch.bincount(labels, minlength=len(classes)).tolist()
    empty = [str(path / name) for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise LimbeckError(
            f"every class must have an image, there is none that can be used in {listed(empty)}; "
            f"add images ({' '.join(EXTENSIONS)}) or remove the folder"
        )


def decoded_bytes(files: Files) -> int:
    if files.image_size is not None:
        return len(files) * 3 * files.image_size**2
    return len(files) * files.fetch([0]).numel()
