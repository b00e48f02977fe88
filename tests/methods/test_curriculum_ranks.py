"""CTKD on two gloo processes learns the temperature that one process does."""

from pathlib import Path

import torch
from tests.networks import batch, mlp
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, methods

ROWS, STEPS = 12, 5
SPLIT = (torch.arange(7), torch.arange(7, ROWS))  # uneven


def train(rows: Tensor, ranks: int) -> dict[str, Tensor]:
    """Steps of gradient descent on some rows of each batch, weighted by their share of it."""
    objective = methods.ctkd(reversal=-1e3)  # so that the temperature moves in a few steps
    distiller = Distiller(mlp(3), mlp(5, seed=1).double(), objective).double()
    wrapped = DistributedDataParallel(distiller) if ranks > 1 else distiller
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1, momentum=0.9)
    share = dict.fromkeys(("truth", "ctkd"), ranks * len(rows) / ROWS)
    for step in range(STEPS):
        x, y = batch(ROWS, seed=step)
        wrapped(x[rows].double(), target=y[rows], share=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in distiller.state_dict().items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    torch.save(train(SPLIT[rank], ranks=2), folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def test_two_ranks_equal_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    alone = train(torch.arange(ROWS), ranks=1)
    (theta,) = (value.item() for name, value in alone.items() if name.endswith("theta"))
    assert abs(theta - 1) > 1e-3
    assert all(torch.equal(first[name], second[name]) for name in alone)
    for name, value in alone.items():
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-10)
