"""Records of what a teacher said; public reports by their ids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from tests.networks import Custom, Mlp, batch, gradients, mlp
from torch import Tensor, nn
from torch.utils.data import DistributedSampler

from limbeck import Distiller, Frozen, Match, Recorded, losses, truth
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

X, Y = batch()
BOTH = truth() + Match(losses.kl, temperature=4)

NUMBERED = Custom(lambda m, x: nn.functional.pad(x[:, :1], (0, 1)))


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def ask(source: Source, ids: Sequence[int], view: int = 0, x: Tensor | None = None) -> Tensor:
    """What a source says about samples whose first number is their id."""
    rows = torch.tensor(ids)
    inputs = rows.float()[:, None].expand(-1, 4) if x is None else x
    batch = Batch(inputs, {"ids": rows, "view": torch.full_like(rows, view)})
    return source(batch, Signals(), ["output"])["output"]


def test_b100_answers_stay_with_their_samples_however_they_come() -> None:
    recorded = Recorded(NUMBERED, samples=6)
    generator = torch.Generator().manual_seed(0)
    for size in (2, 4, 3):
        order = torch.randperm(6, generator=generator).tolist()
        for start in range(0, 6, size):
            ids = order[start : start + size]
            assert ask(recorded, ids).tolist() == [[float(i), 0.0] for i in ids]


@pytest.mark.parametrize("drop_last", [True, False])
def test_b100_padded_ranks_read_the_same_record(drop_last: bool) -> None:
    recorded = Recorded(NUMBERED, samples=6)
    for epoch in range(2):
        for rank in range(4):
            sampler = DistributedSampler(range(6), 4, rank, shuffle=True, drop_last=drop_last)
            sampler.set_epoch(epoch)
            ids = list(sampler)
            assert ask(recorded, [*ids, *ids]).tolist() == [[float(i), 0.0] for i in [*ids, *ids]]


def test_a_record_is_asked_once() -> None:
    calls = []
    teacher = Custom(lambda m, x: calls.append(len(x)) or NUMBERED(x))
    recorded = Recorded(teacher, samples=6)
    for ids in ([0, 1], [1, 0], [2, 3], [0, 1, 2, 3], [3, 4], [4]):
        ask(recorded, ids)
    assert calls == [2, 2, 2]


@pytest.mark.parametrize(
    ("ids", "view", "message"),
    [
        ([0, 6], 0, r"ids must be in 0\.\.5, got \[0, 6\]"),
        ([-1], 0, r"ids must be in 0\.\.5, got \[-1\]"),
        ([0], 1, r"view must be in 0\.\.0, got \[1\]"),
    ],
)
def test_b100_ids_out_of_range(ids: list[int], view: int, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        ask(Recorded(NUMBERED, samples=6), ids, view)


def test_b100_a_record_needs_ids_and_views() -> None:
    distiller = Distiller(mlp(), Recorded(mlp(seed=1), samples=6), BOTH)
    with pytest.raises(LimbeckError, match=r"needs \['ids', 'view'\] in the data; pass ids="):
        distiller(X, target=Y)
    with pytest.raises(LimbeckError, match=r"needs \['view'\] in the data"):
        distiller(X, target=Y, ids=torch.arange(6))


def flipped(ids: Sequence[int], view: int) -> Tensor:
    """An augmentation that sample and view decide: the sign."""
    signs = torch.tensor([1.0 if (7 * i + 3 * view) % 4 < 2 else -1.0 for i in ids])
    return (signs * (torch.tensor(ids) + 1.0))[:, None].expand(-1, 4)


def test_b101_answers_are_of_the_view_that_the_student_sees() -> None:
    recorded = Recorded(NUMBERED, samples=6, views=2)
    views = [flipped(range(6), view)[:, 0] for view in (0, 1)]
    assert not torch.equal(*views)
    for epoch in range(6):
        ids = torch.randperm(6, generator=torch.Generator().manual_seed(epoch)).tolist()
        x = flipped(ids, epoch % 2)
        assert torch.equal(ask(recorded, ids, epoch % 2, x)[:, 0], x[:, 0])


def test_recorded_equals_live_bit_for_bit() -> None:
    data = {"target": Y, "ids": torch.arange(6), "view": torch.zeros(6, dtype=torch.int64)}
    live, recorded = (
        Distiller(mlp(), source, BOTH + Match(losses.hint, "body"))
        for source in (mlp(seed=1), Recorded(mlp(seed=1), samples=6))
    )
    recorded.prepare(X, **data)
    for _ in range(3):
        steps = [distiller(X, **data) for distiller in (live, recorded)]
        assert torch.equal(steps[0].loss, steps[1].loss)
    for step in steps:
        step.loss.backward()
    assert equal(gradients(live.student), gradients(recorded.student))


def test_a_record_of_more_signals_forgets_no_row() -> None:
    recorded = Recorded(mlp(), samples=6)

    def read(rows: slice, want: str) -> Tensor:
        ids = torch.arange(6)[rows]
        batch = Batch(X[rows], {"ids": ids, "view": torch.zeros_like(ids)})
        return recorded(batch, Signals(), [want])[want]

    for rows, want in ((slice(0, 3), "output"), (slice(3, 6), "body"), (slice(3, 6), "output")):
        expected = Frozen(mlp())(Batch(X[rows]), Signals(), [want])[want]
        assert torch.equal(read(rows, want), expected)


def test_preparing_leaves_no_record() -> None:
    recorded = Recorded(mlp(seed=1), samples=6)
    distiller = Distiller(mlp(), recorded, BOTH)
    ids = torch.arange(6)
    data = {"target": Y, "ids": ids, "view": torch.zeros_like(ids)}
    distiller.prepare(torch.zeros_like(X), **data)
    distiller(X[:2], **{name: value[:2] for name, value in data.items()})
    distiller.prepare(torch.zeros_like(X), **data)
    assert torch.equal(
        distiller(X, **data).loss, Distiller(mlp(), mlp(seed=1), BOTH)(X, **data).loss
    )


def test_a_file_is_the_record_of_what_made_it(tmp_path: Path) -> None:
    recorded, fresh = Recorded(NUMBERED, samples=6), Recorded(Mlp(), samples=6)
    ask(recorded, [0, 1, 2])
    recorded.save(tmp_path / "record.safetensors", "one teacher")
    fresh.load(tmp_path / "record.safetensors", "one teacher")
    assert equal(fresh.state_dict(), recorded.state_dict())
    with pytest.raises(LimbeckError, match="a record of another, but it is one of one teacher"):
        fresh.load(tmp_path / "record.safetensors", "another")


def test_a_record_is_saved_and_goes_on() -> None:
    recorded, fresh = Recorded(NUMBERED, samples=6), Recorded(Mlp(), samples=6)
    ask(recorded, [0, 1, 2])
    fresh.load_state_dict(recorded.state_dict())
    assert ask(fresh, [2, 0]).tolist() == [[2.0, 0.0], [0.0, 0.0]]
    with pytest.raises(LimbeckError, match="must hold 1 views of 3 samples, got 1 views of 6"):
        Recorded(NUMBERED, samples=3).load_state_dict(recorded.state_dict())
    with pytest.raises(LimbeckError, match="must hold 2 views of 3 samples, got 1 views of 6"):
        Recorded(NUMBERED, samples=3, views=2).load_state_dict(recorded.state_dict())
