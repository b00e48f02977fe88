"""Two gloo processes train a group of students as one process does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import batch, mlp
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, Mutual, losses, truth
from limbeck.errors import LimbeckError
from limbeck.exits import Branched
from limbeck.projectors import linear
from limbeck.schemes import Branches, okddip, one

ROWS, STEPS = 12, 8
Group = Mutual | Distiller


def nets(students: int = 3, width: int = 1) -> dict[str, nn.Module]:
    """Networks without batch statistics, `width` apart in their own."""
    return {n: mlp(6 + width * k, seed=k) for k, n in zip(range(students), "abc", strict=False)}


def mutual(teach: Any, prepare: bool = True) -> Mutual:
    hint = 0.1 * Match(losses.hint, "body", source="peers", project=linear)
    matches = Match(losses.kl, source="peers", temperature=2)
    objective = truth() + (matches + hint if teach == "each" else matches)
    group = Mutual(nets(), objective, teach=teach, temperature=2).double()
    torch.manual_seed(0)
    if prepare:
        group.prepare(torch.zeros(2, 4).double(), target=torch.tensor([0, 1]))
    return group


def attended() -> Mutual:
    torch.manual_seed(0)
    return okddip(nets(width=0), leader="c", features="body", width=6).double()


def branched() -> Distiller:
    torch.manual_seed(0)
    heads = [nn.Linear(8, 3) for _ in range(3)]
    net = Branches(nn.Sequential(nn.Linear(4, 8), nn.ReLU()), heads, nn.Linear(8, 3))
    return Distiller(net.double(), {}, one(3))


def cut() -> Distiller:
    """A network that is cut at a layer, with a gate that has no batch statistics."""
    net = Branched([mlp(6, seed=k) for k in range(3)], torch.zeros(2, 4), "body", nn.Linear(6, 3))
    return Distiller(net.double(), {}, one(3))


GROUPS: dict[str, Callable[[], Group]] = {
    rule: lambda rule=rule: mutual(rule)
    for rule in ("each", "mean", "naive", "linear", "minlogit", "general")
} | {"okddip": attended, "one": branched, "cut": cut}


def train(wrapped: nn.Module, group: Group, ranks: int) -> dict[str, Tensor]:
    """Every rank takes unequal rows, with shares of the whole step."""
    rank = dist.get_rank() if ranks > 1 else 0
    optimizer = torch.optim.SGD(group.parameters(), 0.05, momentum=0.9)
    for step in range(STEPS):
        x, y = batch(ROWS, seed=step)
        x = x.double()
        y[: 5 if step == 3 else step % 5] = -100
        rows = [torch.arange(5), torch.arange(5, ROWS)][rank] if ranks > 1 else torch.arange(ROWS)
        total = group.items(ROWS, target=y)
        items = group.items(len(rows), target=y[rows])
        share = {name: ranks * int(n) / int(total[name]) for name, n in items.items()}
        wrapped(x[rows], target=y[rows], share=share).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in group.state_dict().items()}


def refusal(call: Callable[[], Any]) -> str:
    try:
        call()
    except LimbeckError as error:
        return str(error)
    return ""


def refusals() -> dict[str, str]:
    """What a group says to a call beside its wrapper, and to projectors that come too late."""
    x, y = batch(ROWS)
    wrapped = DistributedDataParallel(mutual("each"))
    late = mutual("each", prepare=False)
    late_wrapped = DistributedDataParallel(late)
    late.prepare(x.double(), target=y)
    return {
        "module": refusal(lambda: wrapped.module(x.double(), target=y)),
        "late": refusal(lambda: late_wrapped(x.double(), target=y)),
    }


def sharded() -> dict[str, Tensor]:
    group = mutual("each")
    for student in group.students.values():
        fully_shard(student)
    fully_shard(group)
    return {name: value.full_tensor() for name, value in train(group, group, ranks=2).items()}


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    seen: dict[str, Any] = {"refusals": refusals()}
    for name, make in GROUPS.items():
        group = make()
        seen[name] = train(DistributedDataParallel(group), group, ranks=2)
    seen["sharded"] = sharded()
    torch.save(seen, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("group")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", GROUPS)
def test_two_ranks_equal_one_process(seen: list[dict[str, Any]], name: str) -> None:
    alone = GROUPS[name]()
    start = {key: value.clone() for key, value in alone.state_dict().items()}
    trained = train(alone, alone, ranks=1)
    still = {"teaching.weights"} if name == "general" else set()
    for ranks in seen:
        assert ranks[name].keys() == trained.keys()
        for key, value in trained.items():
            assert torch.equal(value, start[key]) == (key in still), key
            torch.testing.assert_close(ranks[name][key], value, rtol=0, atol=1e-10)


def test_sharded_ranks_equal_one_process(seen: list[dict[str, Any]]) -> None:
    alone = mutual("each")
    trained = train(alone, alone, ranks=1)
    for ranks in seen:
        for key, value in trained.items():
            torch.testing.assert_close(ranks["sharded"][key], value, rtol=0, atol=1e-10)


def test_what_ranks_would_train_apart_is_refused(seen: list[dict[str, Any]]) -> None:
    for ranks in seen:
        assert "call the wrapper, not wrapper.module" in ranks["refusals"]["module"]
        assert "a projector was made after wrapping" in ranks["refusals"]["late"]
