"""Methods that own something: two gloo ranks train as one process, and resuming as never stopping.

All methods that own parameters or a memory, or ask the other ranks, each beside a schedule of its
weight, take unequal shares of each batch in one pair of processes; each rank leaves what it ended
with.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Objective, methods
from limbeck.checkpoint import load_state, save_state
from limbeck.methods import ROWS
from limbeck.methods.factors import Paraphraser
from limbeck.schedules import Linear

each = pytest.mark.parametrize
State = dict[str, Tensor]


class Net(nn.Module):
    """Images (B, 3, 8, 8) to 3 classes by maps of two sizes, tokens and their products.

    Each sample by itself: without batch statistics and dropout.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.early = nn.Conv2d(3, width, 3, padding=1)
        self.late = nn.Conv2d(width, width, 3, stride=2, padding=1)
        self.tokens, self.scores = nn.Identity(), nn.Identity()
        self.classes = nn.Conv2d(width, 3, 1)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        f = self.late(self.early(x).relu())
        tokens = self.tokens(f.flatten(2).mT)
        self.scores(tokens[:, None] @ tokens[:, None].mT)
        return self.head(tokens.mean(1)) + self.classes(f).mean((2, 3))


STAGES = ["early", "late"]
METHODS: dict[str, Callable[[Net], Objective]] = {
    "ctkd": lambda t: methods.ctkd(reversal=Linear(0.0, -1e3)),
    "fitnet": lambda t: methods.fitnet("late"),
    "ft": lambda t: methods.ft("late", paraphraser=paraphraser()),
    "ab": lambda t: methods.ab("late"),
    "vid": lambda t: methods.vid("late"),
    "ofd": lambda t: methods.ofd("late", norm=nn.BatchNorm2d(6).double(), weight=1.0),
    "reviewkd": lambda t: methods.reviewkd(STAGES, width=5),
    "simkd": lambda t: methods.simkd("late", classifier=t.head),
    "srrl": lambda t: methods.srrl("late", classifier=t.head),
    "mgd": lambda t: methods.mgd("late", ratio=0.0, weight=1.0),  # no mask is drawn
    "byot_hint": lambda t: methods.byot_hint("early", "late"),
    "vkd": lambda t: methods.vkd("tokens", "late"),
    "srd_logsum": lambda t: methods.srd_logsum("late"),
    "srd_correlation": lambda t: methods.srd_correlation("late"),
    "afd": lambda t: methods.afd(STAGES, width=8, weight=100.0),
    "semckd": lambda t: methods.semckd(STAGES, batch=12, weight=1.0),
    "ickd": lambda t: methods.ickd("late"),
    "crd": lambda t: methods.crd(20, "late", negatives=6, width=4),
    "tinybert": lambda t: methods.tinybert([("tokens",) * 2], [("scores",) * 2]),
    "embedding_mse": lambda t: methods.embedding_mse("tokens"),
    "vitkd": lambda t: methods.vitkd([("tokens",) * 2], ("tokens",) * 2, extra=0),
    "cwd": lambda t: methods.cwd("late", mask="data:near", truth_weight=0),
    "pkd": lambda t: methods.pkd("late"),
    "fgd": lambda t: methods.fgd("late", stride=2, relation=1.0),
    "fgfi": lambda t: methods.fgfi("late", stride=2, anchors=[(4, 4), (6, 3)], weight=1.0),
    "defeat": lambda t: methods.defeat(STAGES, strides=[1, 2]),
    "score_weighted_l2": lambda t: methods.score_weighted_l2("late", logits="teacher:classes"),
    "aekd": lambda t: methods.aekd(["teacher", "other", "third"]),
    "amtml": lambda t: methods.amtml(["teacher", "other"], "late", weight=1000.0),
}
ASKING = {"aekd"}  # which own nothing
ALONE = {  # what a rank cannot know of the rows of others
    "srd_logsum": "compares samples",
    "srd_correlation": "compares samples",
    "semckd": "compares samples",
    "pkd": "compares samples",
    "vitkd": "draws a mask",
    "fgfi": "divides by the positions that it finds",
    "defeat": "divides by the positions that it finds",
    "score_weighted_l2": "divides by the scores that it finds",
}
NORMED = (
    *("fitnet", "ft", "ab", "ofd", "reviewkd", "simkd", "srrl", "byot_hint", "afd", "semckd"),
    "ickd",
)
TOGETHER = [name for name in METHODS if name not in ALONE]
APART = [name for name in METHODS if name in ALONE or name in NORMED]

COUNT, STEPS = 12, 4
SPLIT = (torch.arange(7), torch.arange(7, COUNT))


def paraphraser() -> Paraphraser:
    """The one that was trained, as a file would have it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Paraphraser(6).double()


def batch(step: int) -> tuple[Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(step)
    corner = torch.rand(COUNT, 2, 2, generator=random, dtype=torch.float64) * 4
    return torch.randn(COUNT, 3, 8, 8, generator=random, dtype=torch.float64), {
        "target": torch.randint(0, 3, (COUNT,), generator=random),
        "ids": (3 * torch.arange(COUNT) + step) % 20,
        "boxes": torch.cat([corner, corner + 3], -1),
        "mask": torch.rand(COUNT, 16, generator=random) < 0.7,
        "near": torch.rand(COUNT, 4, 4, generator=random) < 0.1,
    }


def build(name: str, seed: int = 0) -> Distiller:
    """A prepared distiller, all of whose parameters learn."""
    torch.manual_seed(1)
    teacher, other, third = (Net(6).double() for _ in range(3))
    torch.manual_seed(seed)
    student = Net(4).double()
    objective = Linear(0.5, 1.0) * METHODS[name](teacher) + methods.logit_mse()
    sources = {"teacher": teacher, "other": other, "third": third}
    distiller = Distiller(student, sources, objective)
    x, data = batch(0)
    distiller.prepare(x, **data)
    return distiller


def normalisations(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, _BatchNorm)]


def train(
    wrapped: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: range,
    rows: Tensor | None = None,
    still: bool = False,
) -> None:
    """Steps on some rows of each batch, by their share of it; on `still`, normalisations are."""
    distiller = wrapped.module if isinstance(wrapped, DistributedDataParallel) else wrapped
    for step in steps:
        torch.manual_seed(step)
        x, data = batch(step)
        total, share = distiller.items(COUNT, **data), None
        if rows is not None:
            x, data = x[rows], {key: value[rows] for key, value in data.items()}
            items = distiller.items(len(x), **data)
            share = {part: len(SPLIT) * int(n) / int(total[part]) for part, n in items.items()}
        distiller.advance(step / STEPS)
        for part in normalisations(distiller.objective):
            part.train(not still)
        wrapped(x, share=share, **data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def sgd(module: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(module.parameters(), 1e-3, momentum=0.9)


def state(module: nn.Module) -> State:
    """Everything but running statistics, of which ranks go on with the first one's."""
    kept = module.state_dict().items()
    return {name: value.clone() for name, value in kept if "running" not in name}


def alone(name: str, still: bool) -> State:
    distiller = build(name)
    train(distiller, sgd(distiller), range(STEPS), still=still)
    return state(distiller)


def gaps(left: State, right: State) -> dict[str, float]:
    return {name: float((value - right[name]).abs().max()) for name, value in left.items()}


# ---- what the two processes do


def shared(name: str, rank: int, still: bool, broadcast: bool) -> State:
    """Parameters are drawn apart: those of the first rank are everybody's."""
    distiller = build(name, seed=rank)
    wrapped = DistributedDataParallel(distiller)
    wrapped.broadcast_buffers = broadcast  # from now on
    train(wrapped, sgd(distiller), range(STEPS), SPLIT[rank], still)
    return state(distiller)


def work(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    seen: dict[Any, State] = {}
    for broadcast in (True, False):
        seen |= {(name, broadcast): shared(name, rank, True, broadcast) for name in TOGETHER}
    seen |= {name: shared(name, rank, False, True) for name in APART}
    torch.save(seen, folder / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


# ---- what must be seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, State]]:
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(work, (folder,), nprocs=2)
    return [torch.load(folder / f"{rank}.pt") for rank in (0, 1)]


def test_no_method_that_owns_something_is_left_out() -> None:
    assert {row.name for row in ROWS if row.parameters != "none"} == set(METHODS) - ASKING
    assert {name for name in METHODS if normalisations(build(name).objective)} == set(NORMED)


@each("broadcast", [True, False])
@each("name", TOGETHER)
def test_two_ranks_equal_one_process(
    name: str, broadcast: bool, trained: list[dict[Any, State]]
) -> None:
    """Batch normalisations use their running statistics: those of a batch are not shared."""
    first, second = (seen[name, broadcast] for seen in trained)
    whole = alone(name, still=True)
    moved = gaps(whole, state(build(name)))
    learns = ("objective", "student") if name in ASKING else "objective"
    assert any(gap > 1e-7 for key, gap in moved.items() if key.startswith(learns))
    assert not [key for key, gap in moved.items() if 1e-15 < gap < 1e-7]  # too little to tell
    for key, value in whole.items():
        torch.testing.assert_close(first[key], value, rtol=1e-10, atol=1e-10)
        assert torch.equal(first[key], second[key]), key


@each("name", APART)
def test_ranks_agree_where_they_differ_from_one_process(
    name: str, trained: list[dict[Any, State]]
) -> None:
    """Statistics, comparisons, draws and divisors of a rank are of its own rows."""
    first, second = (seen[name] for seen in trained)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert 1e-8 < max(gaps(first, alone(name, still=False)).values()) < 1


@each("name", METHODS)
def test_resuming_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    """From a file, in the middle, built anew from another seed."""
    whole, half, again = build(name), build(name), build(name, seed=7)
    train(whole, sgd(whole), range(STEPS))
    optimizer = sgd(half)
    train(half, optimizer, range(2))
    kept = {"distiller": half.state_dict(), "optimizer": optimizer.state_dict()}
    save_state(kept, tmp_path / "last.pt")
    kept, optimizer = load_state(tmp_path / "last.pt"), sgd(again)
    again.load_state_dict(kept["distiller"])
    optimizer.load_state_dict(kept["optimizer"])
    train(again, optimizer, range(2, STEPS))
    for key, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
