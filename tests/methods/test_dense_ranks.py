"""FGD, the dense method that owns the most: two gloo processes train as one does."""

from pathlib import Path

import torch
from tests.methods.test_dense import DATA, X, net
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, losses, methods


def train(ranks: int) -> dict[str, Tensor]:
    everything = methods.pixel_kd() + Match(losses.hint, "sides")  # so that all parameters learn
    objective = methods.fgd("neck", stride=2, relation=1e-3) + everything
    distiller = Distiller(net(4, 0).double(), net(6, 1).double(), objective)
    torch.manual_seed(0)
    distiller.prepare(X.double(), **DATA)
    wrapped = DistributedDataParallel(distiller) if ranks > 1 else distiller
    optimizer = torch.optim.SGD(distiller.parameters(), 0.01, momentum=0.9)
    rows = torch.arange(len(X)).chunk(ranks)[dist.get_rank() if ranks > 1 else 0]
    for _ in range(5):
        data = {name: value[rows] for name, value in DATA.items()}
        wrapped(X[rows].double(), **data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {key: value.clone() for key, value in distiller.state_dict().items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(train(2), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = train(1)
    assert any("contexts" in key for key in alone)
    assert all(torch.equal(first[key], second[key]) for key in alone)
    for key, value in alone.items():
        torch.testing.assert_close(first[key], value, rtol=1e-10, atol=1e-10)
