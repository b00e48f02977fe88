"""Where a store is: a local folder, or a URL that fsspec knows (`s3://bucket/name`)."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from limbeck.checkpoint import atomic
from limbeck.errors import LimbeckError, need

WHOLE = ("s3", "s3a", "gs", "gcs", "abfs", "az", "adl", "memory")  # objects appear whole there


class Place(Protocol):
    """A flat folder of files that appear whole or not at all."""

    def names(self) -> list[str]:
        """The files, in order; none where the folder is not there yet."""
        ...

    def size(self, name: str) -> int:
        """Bytes of a file."""
        ...

    def part(self, name: str, start: int, stop: int) -> bytes:
        """Some of a file's bytes."""
        ...

    def whole(self, name: str) -> Any:
        """All bytes of a file, mapped where that can be."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """A file, whole or not at all."""
        ...

    def remove(self, name: str) -> None:
        """Takes a file away."""
        ...

    def prepare(self) -> None:
        """Makes the folder; raises LimbeckError where nothing can be written."""
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

    def size(self, name: str) -> int:
        return (self.folder / name).stat().st_size

    def part(self, name: str, start: int, stop: int) -> bytes:
        with (self.folder / name).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def whole(self, name: str) -> Any:
        size = self.size(name)  # torch's map keeps no file open, which Python's does
        path = str(self.folder / name)
        return torch.from_file(path, shared=False, size=size, dtype=torch.uint8).numpy()

    def write(self, name: str, content: bytes) -> None:
        with atomic(self.folder / name) as temporary:
            temporary.write_bytes(content)

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def prepare(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LimbeckError(f"{self} must be a folder to write to: {error.strerror}") from error

    def sweep(self) -> None:
        for path in self.folder.glob(".*.tmp"):
            path.unlink()


class Remote:
    """A URL; files are read whole, and object stores make them visible whole."""

    def __init__(self, url: str) -> None:
        fsspec = need("fsspec", "remote")
        self.url = url.rstrip("/")
        with self.told():
            self.system, self.folder = fsspec.core.url_to_fs(self.url)
        protocol = self.system.protocol
        self.kinds = (protocol,) if isinstance(protocol, str) else tuple(protocol)

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def told(self) -> Iterator[None]:
        """Whatever a file system raises, as one line with the URL."""
        try:
            yield
        except LimbeckError:
            raise
        except Exception as error:
            first = str(error).partition("\n")[0] or type(error).__name__
            raise LimbeckError(f"{self.url} cannot be used: {first}") from error

    def names(self) -> list[str]:
        with self.told():
            self.system.invalidate_cache()
            if not self.system.exists(self.folder):
                return []
            found = [path.rsplit("/", 1)[-1] for path in self.system.ls(self.folder, detail=False)]
        return sorted(name for name in found if name and not name.startswith("."))

    def size(self, name: str) -> int:
        with self.told():
            return int(self.system.size(f"{self.folder}/{name}"))

    def part(self, name: str, start: int, stop: int) -> bytes:
        with self.told():
            return self.system.cat_file(f"{self.folder}/{name}", start=start, end=stop)

    def whole(self, name: str) -> Any:
        with self.told():
            return self.system.cat_file(f"{self.folder}/{name}")

    def write(self, name: str, content: bytes) -> None:
        path = f"{self.folder}/{name}"
        with self.told():
            if set(self.kinds) & set(WHOLE):
                self.system.pipe_file(path, content)
                return
            temporary = f"{self.folder}/.{name}.{secrets.token_hex(4)}.tmp"
            self.system.pipe_file(temporary, content)
            self.system.mv(temporary, path)

    def remove(self, name: str) -> None:
        with self.told():
            self.system.rm_file(f"{self.folder}/{name}")

    def prepare(self) -> None:
        with self.told():
            self.system.makedirs(self.folder, exist_ok=True)

    def sweep(self) -> None:
        """Nothing, in an object store: what was not written whole is not there."""


def place(where: str | Path) -> Place:
    """The place that a path or a URL names.

    >>> str(place("teacher-store")), str(place("file://teacher-store"))
    ('teacher-store', 'teacher-store')
    """
    if isinstance(where, str) and where.startswith("file://"):
        return Local(Path(where.removeprefix("file://")))
    return Remote(where) if isinstance(where, str) and "://" in where else Local(Path(where))
