"""Public reports about stored answers, by their ids."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler

from limbeck import Distiller, Frozen, Match, Recorded, losses
from limbeck.errors import LimbeckError
from limbeck.foreign.logits import as_logits
from limbeck.signals import Batch, Signals
from limbeck.store import Codec, Store, Stored, Writer, by_number, codec, place


def stored(folder: Path, rows: Tensor, kept: Codec, views: int = 1) -> Stored:
    """What was said of samples 0, 1, ...: rows (views * samples, C), a view after the other."""
    samples = len(rows) // views
    with Writer(place(folder), {}, {"output": kept}) as writer:
        for view, part in enumerate(rows.split(samples)):
            keys, seen = by_number(np.arange(samples)), np.full(samples, view)
            writer.add(keys, seen, {"output": part})
    return Stored(Store(place(folder)))


def ask(source: Stored, ids: Tensor, view: int = 0) -> Tensor:
    batch = Batch(ids[:, None].float(), {"ids": ids, "view": torch.full_like(ids, view)})
    return source(batch, Signals(), ["output"])["output"]


# ---- scores that are no distribution


SCORES = torch.tensor([[0.10, 0.05, 0.15]], dtype=torch.float64)
STUDENT = torch.tensor([[0.2, 0.5, 0.3]]).log()
ALL = torch.arange(3)[None]


def test_b004_scores_that_do_not_sum_to_one_are_normalised(tmp_path: Path) -> None:
    """Of a teacher that answers so, alive and stored; never the raw -0.28841605."""
    live = as_logits(SCORES, "probabilities")
    read = ask(stored(tmp_path, live, codec("float32")), torch.tensor([0]))
    for said in (live, read):
        assert float(losses.kl(STUDENT, said)) == pytest.approx(0.242585972, rel=1e-5)


def test_b004_a_whole_distribution_that_does_not_sum_to_one_is_not_stored() -> None:
    with pytest.raises(LimbeckError, match=r"of all 3 classes must sum to 1, got 0\.3"):
        codec("topk", k=3).from_sparse(ALL, SCORES.log().float(), classes=3)


def test_b004_what_half_precision_leaves_of_one_is_a_distribution() -> None:
    kept, p = codec("topk", k=3), torch.tensor([[1 / 3, 1 / 6, 1 / 2]])
    coded = kept.from_sparse(ALL, (0.999 * p).log(), classes=3)
    found = kept.decode(coded.arrays, (3,))
    value = losses.sparse_kl(STUDENT, found[".log_p"], found[".index"], tail="renormalise")
    assert float(value) == pytest.approx(0.242585972, rel=2e-3)


# ---- what underflows


def test_b013_a_sure_teacher_is_as_finite_from_a_store(tmp_path: Path) -> None:
    """Logits keep all of it; of a probability that became 0, log of the smallest number is left."""
    s, t = torch.zeros(1, 2), torch.tensor([[0.0, -120.0]])
    read = ask(stored(tmp_path / "a", t, codec("logits")), torch.tensor([0]))
    assert float(losses.reverse_kl(s, read)) == pytest.approx(59.3068528, rel=1e-5)
    rounded = as_logits(t.softmax(1), "probabilities")
    floor = float(np.log(np.finfo(np.float32).tiny))
    read = ask(stored(tmp_path / "b", rounded, codec("float32")), torch.tensor([0]))
    expected = -np.log(2) - floor / 2
    assert float(losses.reverse_kl(s, read)) == pytest.approx(expected, rel=1e-6)


# ---- rows that are broken


def test_b034_a_bad_row_is_named_with_its_column(tmp_path: Path) -> None:
    rows = torch.zeros(4, 5)
    rows[2, 3] = torch.nan
    with pytest.raises(LimbeckError, match="output of sample 2 is not finite at entry 3"):
        stored(tmp_path, rows, codec("logits"))
    log_p = torch.full((2, 2), 0.5).log()
    log_p[1, 0] = torch.nan
    with pytest.raises(LimbeckError, match="must be numbers, got NaN"):
        codec("topk", k=2).from_sparse(torch.tensor([[0, 1], [2, 3]]), log_p, classes=5)


def test_b034_negative_probabilities_are_refused() -> None:
    with pytest.raises(LimbeckError, match=r"must be in 0\.\.1, got -1 to 0\.5"):
        as_logits(torch.tensor([[0.5, -1.0]]), "probabilities")


# ---- which sample, and which view of it


def loaders() -> Iterator[DataLoader[Tensor]]:
    """Shuffled: by two workers, with rows that are dropped, and padded over four ranks."""
    ids = torch.arange(6)
    yield DataLoader(ids, 2, shuffle=True, num_workers=2, persistent_workers=True)
    yield DataLoader(ids, 4, shuffle=True, drop_last=True)
    for rank in range(4):
        yield DataLoader(ids, 2, sampler=DistributedSampler(ids, 4, rank, shuffle=True))


def test_b100_answers_stay_with_their_samples_however_they_come(tmp_path: Path) -> None:
    """The equality is asserted inside of the loss, for two epochs."""
    seen = []

    def check(s: Tensor, t: Tensor, *, ids: Tensor) -> Tensor:
        assert t.tolist() == [[float(i), 0.0] for i in ids]
        seen.append(len(ids))
        return (s - t).square().mean()

    said = torch.stack((torch.arange(6.0), torch.zeros(6)), 1)
    match = Match(check, given={"ids": "data:ids"})
    distiller = Distiller(nn.Linear(1, 2), stored(tmp_path, said, codec("float32")), 1.0 * match)
    for loader in loaders():
        for _ in range(2):
            for ids in loader:
                distiller(ids[:, None].float(), ids=ids, view=torch.zeros_like(ids))
    assert sum(seen) == 2 * (6 + 4 + 4 * 2)


@pytest.mark.parametrize(
    ("ids", "line"), [([0, 6], "has no row of sample 6"), ([-1], "whole numbers from 0 on, got -1")]
)
def test_b100_samples_that_are_not_there_are_refused(
    ids: list[int], line: str, tmp_path: Path
) -> None:
    source = stored(tmp_path, torch.zeros(6, 2), codec("float32"))
    with pytest.raises(LimbeckError, match=line):
        ask(source, torch.tensor(ids))


def test_b101_answers_are_of_the_view_that_the_student_sees(tmp_path: Path) -> None:
    """A sign that sample and view draw, and a teacher that says its input."""
    signs = torch.tensor([[1.0, -1, 1, 1, -1, -1], [-1.0, -1, 1, -1, 1, 1]])
    views = signs * torch.arange(1.0, 7.0)
    rows = torch.stack((views.flatten(), torch.zeros(12)), 1)
    source = stored(tmp_path, rows, codec("float32"), views=2)
    for epoch in range(6):
        ids = torch.randperm(6, generator=torch.Generator().manual_seed(epoch))
        assert ask(source, ids, epoch % 2)[:, 0].equal(views[epoch % 2][ids])


# ---- what stays in memory


def test_b127_what_is_stored_has_no_graph(tmp_path: Path) -> None:
    source = stored(tmp_path, torch.randn(6, 2), codec("logits"))
    read = ask(source, torch.arange(6))
    assert read.grad_fn is None
    assert not read.requires_grad


def test_b134_a_stored_teacher_is_not_in_memory(tmp_path: Path) -> None:
    source = stored(tmp_path, torch.randn(6, 2), codec("logits"))
    assert source.modules() == []
    assert Frozen(nn.Linear(1, 2)).modules() != []
    assert Recorded(nn.Linear(1, 2), samples=6).modules() != []
