"""Students on ranks of their own learn as a group in one process does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, Mutual, OtherRanks, losses, truth
from limbeck.errors import LimbeckError

STEPS, T = 6, 2.0
OBJECTIVE = truth() + Match(losses.kl, source="peers", temperature=T)


def student(rank: int) -> nn.Module:
    """Each of another width."""
    return mlp(6 + rank, seed=rank).double()


def trained(learner: nn.Module) -> nn.Module:
    optimizer = torch.optim.SGD(learner.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        x, y = batch(12, seed=step)
        optimizer.zero_grad()
        learner(x.double(), target=y, ids=torch.arange(12) + step).loss.backward()
        optimizer.step()
    return learner


def alone(rank: int) -> Distiller:
    distiller = Distiller(student(rank), {"peers": OtherRanks(T)}, OBJECTIVE)
    distiller.prepare(torch.zeros(2, 4).double(), target=torch.tensor([0, 1]))
    return distiller


def refusal(call: Any) -> str:
    try:
        call()
    except LimbeckError as error:
        return str(error)
    return "nothing"


def refusals(rank: int) -> dict[str, str]:
    x, y = torch.zeros(4, 4).double(), torch.tensor([0, 1, 2, 0])
    same = Distiller(mlp().double(), {"peers": OtherRanks()}, OBJECTIVE)
    wrapped = DistributedDataParallel(same)
    parts = Distiller(mlp().double(), {"peers": OtherRanks()}, OBJECTIVE)
    fully_shard(parts)
    return {
        "ids": refusal(lambda: same(x, target=y, ids=torch.arange(4) + rank)),
        "shape": refusal(lambda: same(x[: 3 + (rank == 0)], target=y[: 3 + (rank == 0)])),
        "ddp": refusal(lambda: wrapped(x, target=y)),
        "fsdp": refusal(lambda: parts(x, target=y)),
    }


def work(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/g", rank=rank, world_size=world)
    seen = {"weights": trained(alone(rank)).state_dict(), "refusals": refusals(rank)}
    torch.save(seen, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def seen(request: pytest.FixtureRequest, tmp_path_factory: Any) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("apart")
    torch.multiprocessing.spawn(work, (request.param, folder), nprocs=request.param)
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def test_they_learn_as_in_one_process(seen: list[dict[str, Any]]) -> None:
    students = {str(rank): student(rank) for rank in range(len(seen))}
    group = Mutual(students, OBJECTIVE, teach="mean", temperature=T)
    trained(group)
    for rank, found in enumerate(seen):
        right: dict[str, Tensor] = students[str(rank)].state_dict()
        for name, value in right.items():
            torch.testing.assert_close(
                found["weights"][f"student.{name}"], value, rtol=0, atol=1e-10
            )


def test_what_cannot_be_is_refused_on_every_rank(seen: list[dict[str, Any]]) -> None:
    shapes = [(4, 3), *[(3, 3)] * (len(seen) - 1)]
    for found in seen:
        told = found["refusals"]
        assert "all ranks must see the same samples" in told["ids"]
        assert f"'output' must be of one shape on all ranks, got {shapes}" in told["shape"]
        assert "DDP or FSDP would make them one" in told["ddp"]
        assert "DDP or FSDP would make them one" in told["fsdp"]


def test_a_single_process_has_no_peers() -> None:
    distiller = Distiller(mlp(), {"peers": OtherRanks()}, OBJECTIVE)
    with pytest.raises(LimbeckError, match="got a single process; start torchrun"):
        distiller(*batch(4)[:1], target=batch(4)[1])


def test_a_temperature_is_positive() -> None:
    with pytest.raises(LimbeckError, match="temperature must be positive, got 0"):
        OtherRanks(temperature=0)
