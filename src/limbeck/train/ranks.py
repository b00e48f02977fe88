"""One process or many: what the ranks of a training agree on."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.errors import LimbeckError

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process's place among the processes of a training."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums of named counts over all ranks."""
        if self.world == 1 or not counts:
            return dict(counts)
        stacked = torch.stack([value.to(torch.float64) for value in counts.values()])
        dist.all_reduce(stacked)
        return dict(zip(counts, stacked.unbind(), strict=True))

    def any(self, flag: int) -> int:
        """The largest flag of all ranks."""
        if self.world == 1:
            return flag
        tensor = torch.tensor(flag)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def each(self, value: T) -> list[T]:
        """What every rank has, in the order of the ranks."""
        if self.world == 1:
            return [value]
        found = [value] * self.world
        dist.all_gather_object(found, value)
        return found

    def from_first(self, ask: Callable[[], T]) -> T:
        """What the first rank finds; the error that it meets stops all of them."""
        if self.world == 1:
            return ask()
        told: list[Any] = [None, ""]
        try:
            if self.first:
                told[0] = ask()
        except Exception as error:
            told[1] = str(error) or type(error).__name__
            raise
        finally:
            dist.broadcast_object_list(told)
        if told[1]:
            raise LimbeckError(told[1])
        return told[0]

    def wait(self) -> None:
        if self.world > 1:
            dist.barrier()


@contextmanager
def joined() -> Iterator[Ranks]:
    """The ranks that torchrun started, for the time being; one process otherwise.

    They find each other under the number of their restart: torchrun may keep one store for all of
    its restarts, and then ranks would wait for the addresses of those that died.
    """
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, world = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(f"life {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
    dist.init_process_group(backend, store=store, rank=rank, world_size=world)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
