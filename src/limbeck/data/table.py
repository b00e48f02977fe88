"""Labels files: a CSV with a row for each image, its path first, then its targets."""

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from limbeck.data.files import Files
from limbeck.data.folder import MEMORY, held, readable
from limbeck.data.images import Images, listed
from limbeck.errors import LimbeckError

Cell = Callable[[str], float]
LARGEST = torch.finfo(torch.float32).max


def flag(text: str) -> float:
    """Whether a class is there: 0 or 1, or as what writes tables with gaps has it, 0.0 or 1.0."""
    if text not in ("0", "1", "0.0", "1.0"):
        raise ValueError("must be 0, 1 or empty")
    return float(text)


def number(text: str) -> float:
    """A number that is finite in float32."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= LARGEST:
        raise ValueError("must be a number or empty")
    return value


def open_table(
    path: Path,
    cell: Cell,
    *,
    image_size: int | None = None,
    skip_corrupt: bool = False,
    memory: int = MEMORY,
) -> Images:
    """The images of a labels file, in its order; decoded and kept as `open_folder` does.

    The first row names the columns. The first column is an image's path, from the file's own
    folder; every further one a target, which `cell` reads (`flag`, `number`) and which is unknown
    where the cell is empty. An image without any target is unlabelled.

    Raises:
        LimbeckError: naming the file and the row of what is wrong.
    """
    rows = read_rows(path)
    names = header(path, rows)
    found = [parsed(path, at, row, names, cell) for at, row in rows]
    if not found:
        raise LimbeckError(f"{path} must have a row for each image, got none below the header")
    files = Files(path.parent, tuple(name for _, name, _ in found), image_size)
    labels = torch.tensor([targets for _, _, targets in found], dtype=torch.float32)
    skipped: tuple[Path, ...] = ()
    if skip_corrupt:
        files, labels, skipped = readable(files, labels)
        if not len(files):
            raise LimbeckError(f"{path} must name an image that can be read, got none")
    else:
        require_files(path, files, [at for at, _, _ in found])
    return Images(held(files, memory), labels, names, skipped)


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, each with the number of its line, without spaces about cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if any(row):
                    yield reader.line_num, [text.strip() for text in row]
    except OSError as error:
        raise LimbeckError(
            f"csv must name a file, {path}: {(error.strerror or '').lower()}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise LimbeckError(f"{path} must be a CSV file in UTF-8, but {error}") from error


def header(path: Path, rows: Iterator[tuple[int, list[str]]]) -> tuple[str, ...]:
    """The names of the targets."""
    _, (first, *names) = next(rows, (0, [""]))
    if not names:
        raise LimbeckError(
            f"{path} must begin with a header: a name for the column of paths, and one for each "
            "target after a comma"
        )
    if (path.parent / first).is_file():
        raise LimbeckError(
            f"{path} must begin with a header, but row 1 is about the image {first}; "
            "add a row of names"
        )
    twice = [name for k, name in enumerate(names) if not name or name in names[:k]]
    if twice:
        raise LimbeckError(f"{path} must name each target once in row 1, got {twice[0]!r} again")
    return tuple(names)


def parsed(
    path: Path, at: int, row: Sequence[str], names: Sequence[str], cell: Cell
) -> tuple[int, str, list[float]]:
    """A row as its line, its image's path and its targets, NaN where unknown."""
    if len(row) != 1 + len(names) or not row[0]:
        raise LimbeckError(
            f"{path}, row {at} must have a path and {len(names)} targets ({listed(tuple(names))}), "
            f"got {','.join(row)!r}"
        )
    targets = []
    for name, text in zip(names, row[1:], strict=True):
        try:
            targets.append(cell(text) if text else math.nan)
        except ValueError as error:
            raise LimbeckError(f"{path}, row {at}: {name} {error}, got {text!r}") from error
    return at, row[0], targets


def require_files(path: Path, files: Files, lines: Sequence[int]) -> None:
    """Raises LimbeckError with the first row whose image is not there."""
    for i, at in enumerate(lines):
        if not files.path(i).is_file():
            raise LimbeckError(f"{path}, row {at} must name an image file, got {files.names[i]}")
