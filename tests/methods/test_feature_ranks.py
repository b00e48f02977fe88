"""Feature methods that own parameters: two gloo processes train as one does."""

from pathlib import Path

import pytest
import torch
from tests.networks import Custom
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, methods
from limbeck.methods.regression import Regression
from limbeck.objective import Objective
from limbeck.projectors import conv

NAMES = ("vid", "srrl", "fitnet")
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.tensor([0, 1, 2, 1])


def answer(model: nn.Module, x: Tensor) -> Tensor:
    return model.head(model.act(model.conv(x)).mean((2, 3)))


def net(width: int, seed: int) -> Custom:
    torch.manual_seed(seed)
    parts = {"conv": nn.Conv2d(3, width, 3), "act": nn.ReLU(), "head": nn.Linear(width, 3)}
    return Custom(answer, **parts).double()


def objective(name: str, teacher: Custom) -> Objective:
    """Without batch statistics, which ranks do not share."""
    if name == "srrl":
        match = Match(Regression(teacher.head), "act", project=conv, name="srrl")
        return match + methods.vid("conv")
    return {"vid": methods.vid, "fitnet": methods.fitnet}[name]("act")


def train(name: str, ranks: int) -> dict[str, Tensor]:
    teacher = net(5, 1)
    distiller = Distiller(net(3, 0), teacher, objective(name, teacher))
    torch.manual_seed(0)
    distiller.prepare(X, target=Y)
    wrapped = DistributedDataParallel(distiller) if ranks > 1 else distiller
    optimizer = torch.optim.SGD(distiller.parameters(), 0.02, momentum=0.9)
    rows = torch.arange(len(X)).chunk(ranks)[dist.get_rank() if ranks > 1 else 0]
    for _ in range(5):
        wrapped(X[rows], target=Y[rows]).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {key: value.clone() for key, value in distiller.state_dict().items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save({name: train(name, 2) for name in NAMES}, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_equal_one_process(
    name: str, trained: list[dict[str, dict[str, Tensor]]]
) -> None:
    first, second = (seen[name] for seen in trained)
    alone = train(name, 1)
    assert all(torch.equal(first[key], second[key]) for key in alone)
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-10, atol=1e-10)
