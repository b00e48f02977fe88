"""Two gloo processes with sources that move train as one does; all in one pair of processes."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Ema, Match, Past, losses, truth
from limbeck.averages import whole

SAMPLES, ROWS, STEPS = 16, 8, 6
SOFT = {"target": "data:target"}


def with_ema() -> Distiller:
    student = mlp().double()
    objective = truth() + Match(losses.kl, source="ema", temperature=2)
    return Distiller(student, {"ema": Ema(student, 0.7)}, objective)


def with_past() -> Distiller:
    """In double precision; rounding to float16 would turn 1e-17 into 1e-3 now and then."""
    soft = Match(losses.ps_kd, source="past", given=SOFT, alpha=0.6)
    return Distiller(mlp().double(), {"past": Past(SAMPLES, torch.float64)}, 1.0 * soft)


MADE: dict[str, Callable[[], Distiller]] = {"ema": with_ema, "past": with_past}


def data(step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two steps an epoch, shuffled; in one of them both ranks have the same sample."""
    x, y = batch(ROWS, seed=step)
    epoch, half = divmod(step, SAMPLES // ROWS)
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(epoch))
    ids = order[half * ROWS :][:ROWS]
    if step == 2:
        ids[-1] = ids[0]
    return x.double(), y, ids


def train(wrapped: nn.Module, distiller: Distiller, ranks: int) -> None:
    """Every rank takes its half of the rows in two pieces."""
    rank = dist.get_rank() if ranks > 1 else 0
    optimizer = torch.optim.SGD(distiller.parameters(), 0.2, momentum=0.9)
    for step in range(STEPS):
        x, y, ids = data(step)
        distiller.advance(step / (STEPS - 1))
        for rows in torch.arange(ROWS).chunk(ranks)[rank].chunk(ranks):
            share = dict.fromkeys(distiller.objective.parts(), ranks * len(rows) / ROWS)
            given = {"target": y[rows], "ids": ids[rows], "share": share}
            wrapped(x[rows], **given).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def state(distiller: Distiller) -> dict[str, Tensor]:
    (source,) = distiller.sources.values()
    return {**distiller.state_dict(), **{f"own {n}": v for n, v in source.state_dict().items()}}


def sharded() -> dict[str, Tensor]:
    """A student in three shards, evaluated once, after which the outermost is whole for a while."""
    distiller = with_ema()
    for part in (distiller.student.body, distiller.student, distiller):
        fully_shard(part)
    x, y, _ = data(0)
    with torch.no_grad():
        distiller(x, target=y)
    train(distiller, distiller, ranks=2)
    return {name: whole(value).clone() for name, value in state(distiller).items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    for name, make in MADE.items():
        distiller = make()
        train(DistributedDataParallel(distiller), distiller, ranks=2)
        torch.save(state(distiller), folder / f"{name}-{rank}.pt")
    torch.save(sharded(), folder / f"sharded-{rank}.pt")
    half = Past(SAMPLES)
    distiller = Distiller(mlp(), {"past": half}, 1.0 * Match(losses.kl, source="past"))
    distiller.advance(0.0)
    x, _, ids = data(0)
    rows = slice(0, 5) if rank else slice(5, 8)
    DistributedDataParallel(distiller)(x[rows].float(), ids=ids[rows])
    torch.save(half.state_dict(), folder / f"half-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


def seen(folder: Path, name: str) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{name}-{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", MADE)
def test_two_ranks_equal_one_process(folder: Path, name: str) -> None:
    alone = MADE[name]()
    start = {n: value.clone() for n, value in state(alone).items()}
    train(alone, alone, ranks=1)
    for found in seen(folder, name):
        assert found.keys() >= start.keys()
        for key, value in state(alone).items():
            assert key not in start or not torch.equal(value, start[key])
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)


def test_the_average_of_a_sharded_student_is_that_of_one_process(folder: Path) -> None:
    alone = with_ema()
    train(alone, alone, ranks=1)
    for found in seen(folder, "sharded"):
        assert {type(value) for value in found.values()} == {Tensor}
        for key, value in state(alone).items():
            torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10)


def test_ranks_of_different_lengths_remember_the_same_in_float16(folder: Path) -> None:
    first, second = seen(folder, "half")
    assert all(torch.equal(first[name], second[name]) for name in first)
    x, _, ids = data(0)
    assert first["records.output"].dtype == torch.float16
    expected = mlp()(x.float()).detach().half()
    torch.testing.assert_close(first["records.output"][ids], expected, rtol=1e-3, atol=0)
    assert int((first["seen"] > 0).sum()) == ROWS
