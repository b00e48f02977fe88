"""Where a store is: a local folder, or a URL that fsspec knows (`s3://bucket/name`)."""

import mmap
from pathlib import Path
from typing import Any, Protocol

from limbeck.checkpoint import atomic
from limbeck.errors import LimbeckError, need


class Place(Protocol):
    """A flat folder of files that appear whole or not at all."""

    def names(self) -> list[str]:
        """The files, in order; none where the folder is not there yet."""
        ...

    def read(self, name: str) -> Any:
        """A file's bytes, mapped where that can be."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all."""
        ...

    def remove(self, name: str) -> None:
        """Takes a file away."""
        ...

    def sweep(self) -> None:
        """Takes away what writers left that were killed; none may be writing."""
        ...


class Local:
    """A folder of this machine, or of a network drive."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> list[str]:
        inside = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(path.name for path in inside if not path.name.startswith("."))

    def read(self, name: str) -> Any:
        path = self.folder / name
        if not path.stat().st_size:
            return b""
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def write(self, name: str, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def sweep(self) -> None:
        for path in self.folder.glob(".*.tmp"):
            path.unlink()


class Remote:
    """A URL; files are read whole, and object stores make them visible whole."""

    def __init__(self, url: str) -> None:
        fsspec = need("fsspec", "remote")
        self.url = url.rstrip("/")
        try:
            self.system, self.folder = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise LimbeckError(f"{url} is a URL that cannot be used: {error}") from error

    def __str__(self) -> str:
        return self.url

    def names(self) -> list[str]:
        self.system.invalidate_cache()
        if not self.system.exists(self.folder):
            return []
        found = self.system.ls(self.folder, detail=False)
        return sorted(name for name in (path.rsplit("/", 1)[-1] for path in found) if name)

    def read(self, name: str) -> Any:
        return self.system.cat_file(f"{self.folder}/{name}")

    def write(self, name: str, content: bytes) -> None:
        self.system.makedirs(self.folder, exist_ok=True)
        self.system.pipe_file(f"{self.folder}/{name}", content)

    def remove(self, name: str) -> None:
        self.system.rm_file(f"{self.folder}/{name}")

    def sweep(self) -> None:
        """Nothing: what was not written whole is not there."""


def place(where: str | Path) -> Place:
    """The place that a path or a URL names.

    >>> str(place("teacher-store"))
    'teacher-store'
    """
    return Remote(where) if isinstance(where, str) and "://" in where else Local(Path(where))
