"""Files of teachers: there or not, and what says that they are the same."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import LimbeckError

CHUNK = 1 << 20


def existing(path: str | Path) -> Path:
    """The path; raises LimbeckError unless there is such a file."""
    found = Path(path).expanduser()
    if not found.is_file():
        raise LimbeckError(f"a teacher must be a file, got {found}")
    return found


def digest(paths: Sequence[Path]) -> str:
    """SHA-256 over the bytes of files, one after another."""
    found = hashlib.sha256()
    for path in paths:
        found.update(path.stat().st_size.to_bytes(8, "little"))
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                found.update(chunk)
    return found.hexdigest()
