"""A row of batches made here or in workers: same order, same errors."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from limbeck.errors import LimbeckError

T = TypeVar("T")
Key = tuple[int, int]


@dataclass
class Keys:
    """The keys of the batches that the workers make next."""

    pending: list[Key] = field(default_factory=list)

    def __iter__(self) -> Iterator[Key]:
        return iter(self.pending)

    def __len__(self) -> int:
        return len(self.pending)


@dataclass(frozen=True)
class Task(Dataset[T | LimbeckError]):
    """Runs `make` in a worker and brings an error back as a value, so that it stays one line."""

    make: Callable[[Key], T]

    def __getitem__(self, index: Key) -> T | LimbeckError:
        try:
            return self.make(index)
        except LimbeckError as error:
            return error


class Stream(Generic[T]):
    """`make(key)` for each key in turn; worker processes, if any, live as long as the stream."""

    def __init__(self, make: Callable[[Key], T], workers: int) -> None:
        if workers < 0:
            raise LimbeckError(f"`workers` must be at least 0, got {workers}")
        self.make = make
        self.keys = Keys()
        self.loader = worker_loader(make, self.keys, workers) if workers else None

    def __call__(self, keys: Iterable[Key]) -> Iterator[T]:
        if self.loader is None:
            yield from map(self.make, keys)
            return
        self.keys.pending = list(keys)
        for batch in self.loader:
            if isinstance(batch, LimbeckError):
                raise LimbeckError(str(batch))
            yield batch


def worker_loader(
    make: Callable[[Key], T], keys: Keys, workers: int
) -> DataLoader[T | LimbeckError]:
    """Spawned, persistent workers; the generator keeps torch's global one untouched."""
    return DataLoader(
        Task(make),
        batch_size=None,
        sampler=keys,
        num_workers=workers,
        persistent_workers=True,
        multiprocessing_context="spawn",
        generator=torch.Generator(),
    )
