"""CRD on two gloo processes remembers and trains as one process does."""

from pathlib import Path

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, methods

ROWS, STEPS, SAMPLES = 12, 5, 20
SPLIT = (torch.arange(7), torch.arange(7, ROWS))  # uneven


def make(seed: int = 0) -> Distiller:
    objective = methods.crd(SAMPLES, "body", negatives=6, width=4)
    distiller = Distiller(mlp(3).double(), mlp(5, seed=1).double(), objective)
    torch.manual_seed(seed)
    x, y = batch(2)
    distiller.prepare(x.double(), target=y, ids=torch.arange(2))
    return distiller


def train(wrapped: nn.Module, distiller: Distiller, rows: Tensor, ranks: int) -> dict[str, Tensor]:
    """Steps of gradient descent on some rows of each batch, weighted by their share of it."""
    share = dict.fromkeys(("truth", "crd[body]"), ranks * len(rows) / ROWS)
    for step in range(STEPS):
        x, y = batch(ROWS, seed=step)
        ids = (3 * torch.arange(ROWS) + step) % SAMPLES
        wrapped(x[rows].double(), target=y[rows], ids=ids[rows], share=share).loss.backward()
        with torch.no_grad():
            for parameter in distiller.parameters():
                parameter -= 0.05 * parameter.grad
        distiller.zero_grad()
    return {name: value.clone() for name, value in distiller.state_dict().items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    for broadcast in (True, False):
        distiller = make(seed=rank)  # the projectors of the first rank are everybody's
        wrapped = DistributedDataParallel(distiller, broadcast_buffers=broadcast)
        torch.save(
            train(wrapped, distiller, SPLIT[rank], ranks=2), folder / f"{broadcast}-{rank}.pt"
        )
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contrast")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return folder


@pytest.mark.parametrize("broadcast", [True, False])
def test_two_ranks_equal_one_process(folder: Path, broadcast: bool) -> None:
    alone = make()
    start = {name: value.clone() for name, value in alone.state_dict().items()}
    whole = train(alone, alone, torch.arange(ROWS), ranks=1)
    first, second = (torch.load(folder / f"{broadcast}-{rank}.pt") for rank in (0, 1))
    for name, value in whole.items():
        assert not torch.equal(value, start[name]), name
        torch.testing.assert_close(first[name], value, rtol=0, atol=1e-10)
        assert torch.equal(first[name], second[name]), name
