"""CRD's memory: what it holds and who may change it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from tests.networks import batch, mlp
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from limbeck import Distiller, Match, losses
from limbeck.errors import LimbeckError
from limbeck.methods.contrast import CRD
from limbeck.methods.negatives import Negatives
from limbeck.ops import torch_samples
from limbeck.signals import Signals

SAMPLES, WIDTH = 11, 3
X, Y = batch(6)
IDS = torch.tensor([4, 0, 9, 7, 2, 10])
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 0])


def contrasting(**options: Any) -> tuple[Distiller, CRD]:
    term = CRD(SAMPLES, "body", width=WIDTH, negatives=5, **options)
    distiller = Distiller(mlp(4), mlp(5, seed=1), term)
    distiller.prepare(X, ids=IDS)
    return distiller, term


def train(distiller: Distiller, steps: range) -> None:
    for step in steps:
        distiller(X + step, ids=(IDS + step) % SAMPLES).loss.backward()
        with torch.no_grad():
            for parameter in distiller.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        distiller.zero_grad()


def embedded(distiller: Distiller, term: CRD) -> tuple[Tensor, Tensor]:
    """Both sides projected, of unit length."""
    assert term.embed_s is not None
    assert term.embed_t is not None
    with torch.no_grad():
        s, t = (net.body(net.stem(X).relu()) for net in (distiller.student, mlp(5, seed=1)))
        return F.normalize(term.embed_s(s)), F.normalize(term.embed_t(t))


# ---- values


def test_the_first_step_scores_by_its_own_constant_and_keeps_it() -> None:
    distiller, term = contrasting()
    s, t = embedded(distiller, term)
    index = term.draw(IDS, 0)
    before = term.memory_s.clone(), term.memory_t.clone()
    expected = losses.crd(s, t, *before, index)
    torch.testing.assert_close(distiller(X, ids=IDS).loss.detach(), expected)
    scores = [
        (x[:, None] * memory[index]).sum(-1) / 0.07
        for x, memory in ((s, before[1]), (t, before[0]))
    ]
    z = [score.exp().mean() * SAMPLES for score in scores]
    torch.testing.assert_close(term.log_z.exp(), torch.stack(z))
    kept = term.log_z.clone()
    train(distiller, range(3))
    assert torch.equal(term.log_z, kept)


def test_a_step_turns_the_vectors_of_its_samples_and_no_others() -> None:
    distiller, term = contrasting(momentum=0.25)
    sides = embedded(distiller, term)
    before = term.memory_s.clone(), term.memory_t.clone()
    distiller(X, ids=IDS)
    for x, old, new in zip(sides, before, (term.memory_s, term.memory_t), strict=True):
        for i in range(SAMPLES):
            expected = old[i]
            if i in IDS.tolist():
                expected = 0.25 * old[i] + 0.75 * x[IDS.tolist().index(i)]
                expected = expected / math.hypot(*expected.tolist())
            torch.testing.assert_close(new[i], expected)


def test_views_of_one_sample_are_averaged_in_any_order() -> None:
    ids = torch.tensor([4, 4, 9, 4, 2, 9])
    found = []
    for order in (torch.arange(6), torch.tensor([5, 3, 1, 0, 2, 4])):
        distiller, term = contrasting()
        distiller(X[order], ids=ids[order])
        found.append(term.memory_s.clone())
    torch.testing.assert_close(*found)


def test_gradients_reach_the_student_and_both_projectors_alone() -> None:
    distiller, term = contrasting()
    distiller(X, ids=IDS).loss.backward()
    assert term.embed_s is not None
    assert term.embed_t is not None
    for layer in (term.embed_s, term.embed_t, distiller.student.stem, distiller.student.body):
        assert layer.weight.grad is not None
        assert layer.weight.grad.count_nonzero() > 0
    assert not term.memory_s.requires_grad
    assert distiller.student.head.weight.grad is None


def test_the_source_is_held_still() -> None:
    s, t = torch.randn(2, 6, 4).unbind()
    term = CRD(SAMPLES, "body", width=WIDTH, negatives=5)
    s.requires_grad_()
    t.requires_grad_()
    signals = Signals({"student": {"body": s}, "teacher": {"body": t}, "data": {"ids": IDS}})
    term.prepare(signals)
    term(signals)["crd[body]"].backward()
    assert s.grad is not None
    assert t.grad is None


@pytest.mark.parametrize("rarely", [0, 10**6])
def test_all_rows_at_once_or_some_at_a_time(rarely: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, rows = torch.randn(2, 5, 4, dtype=torch.float64).unbind()
    index = torch.tensor([[0, 1, 1], [2, 2, 2], [4, 3, 0], [1, 0, 4], [3, 3, 1]])
    expected = torch.stack([rows[i] @ a for a, i in zip(x, index, strict=True)])
    monkeypatch.setattr(torch_samples, "SPARSE", rarely)
    for room in (1, 20, 10**6):
        monkeypatch.setattr(torch_samples, "ROOM", room)
        torch.testing.assert_close(torch_samples.dots(x, rows, index), expected)


# ---- who may change it


def test_a_dry_run_evaluation_and_no_gradient_leave_the_memory_alone() -> None:
    distiller, term = contrasting()
    before = {name: value.clone() for name, value in term.state_dict().items()}
    distiller.prepare(X, ids=IDS)
    with torch.no_grad():
        distiller(X, ids=IDS)
    distiller.eval()
    distiller(X, ids=IDS)
    assert all(torch.equal(term.state_dict()[name], value) for name, value in before.items())
    distiller.train()
    distiller(X, ids=IDS)
    assert int(term.step) == 1
    assert not torch.equal(term.memory_s, before["memory_s"])


def test_b130_the_memory_says_its_size_and_is_not_the_students() -> None:
    assert CRD.bytes(1_000_000) == 1_024_000_000
    distiller, term = contrasting()
    memories = term.memory_s, term.memory_t
    assert sum(m.numel() * m.element_size() for m in memories) == CRD.bytes(SAMPLES, WIDTH)
    assert not [name for name in distiller.student.state_dict() if "memory" in name]
    saved = [name for name in distiller.state_dict() if "memory" in name]
    assert saved == ["objective.memory_s", "objective.memory_t"]


def test_ddp_does_not_send_the_memory_in_every_step(tmp_path: Path) -> None:
    """All ranks turn the same vectors; of a million samples it would be a gigabyte a step."""
    distiller, term = contrasting()
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        sent = {id(buffer) for buffer in DistributedDataParallel(distiller).modules_buffers}
    finally:
        dist.destroy_process_group()
    assert {id(term.memory_s), id(term.memory_t)} & sent == set()
    assert id(term.log_z) in sent


def test_the_memory_follows_the_student_in_precision() -> None:
    distiller = Distiller(
        mlp(4).double(), mlp(5, seed=1).double(), CRD(SAMPLES, "body", negatives=5)
    )
    distiller.prepare(X.double(), ids=IDS)
    assert distiller.objective.memory_s.dtype == torch.float64
    assert distiller(X.double(), ids=IDS).loss.dtype == torch.float64


# ---- negatives


def test_negatives_are_the_other_samples() -> None:
    index = Negatives(samples=SAMPLES, each=2000, labels=None, seed=0)(IDS, 0)
    assert torch.equal(index[:, 0], IDS)
    for i, others in zip(IDS.tolist(), index[:, 1:], strict=True):
        times = others.bincount(minlength=SAMPLES)
        assert times[i] == 0
        assert times[torch.arange(SAMPLES) != i].min() > 140


def test_negatives_are_of_other_classes() -> None:
    index = Negatives(samples=SAMPLES, each=500, labels=LABELS, seed=0)(IDS, 0)
    for i, others in zip(IDS.tolist(), index[:, 1:], strict=True):
        assert set(others.tolist()) == {j for j in range(SAMPLES) if LABELS[j] != LABELS[i]}


def test_negatives_depend_on_seed_step_and_sample_alone() -> None:
    draw = Negatives(samples=SAMPLES, each=20, labels=None, seed=0)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    index = draw(IDS, 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draw(IDS.flip(0), 3).flip(0), index)
    assert torch.equal(draw(IDS[2:3], 3), index[2:3])
    assert not torch.equal(draw(IDS, 4), index)
    assert not torch.equal(Negatives(samples=SAMPLES, each=20, labels=None, seed=1)(IDS, 3), index)


# ---- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 1, "each": 5}, "there must be two samples and a negative, got 1 samples"),
        ({"samples": 5, "each": 0}, "got 5 samples and 0"),
        ({"labels": LABELS[:4]}, r"labels must be one for each of 11 samples, got \(4,\)"),
        ({"labels": torch.ones(SAMPLES)}, "labels must tell classes apart, got 1 throughout"),
    ],
)
def test_what_leaves_no_negatives(options: dict[str, Any], message: str) -> None:
    usual = {"samples": SAMPLES, "each": 5, "labels": None, "seed": 0}
    with pytest.raises(LimbeckError, match=message):
        Negatives(**usual | options)


@pytest.mark.parametrize("options", [{"momentum": 1.0}, {"temperature": 0.0}, {"width": 0}])
def test_what_makes_no_memory(options: dict[str, Any]) -> None:
    with pytest.raises(LimbeckError, match=r"momentum must be in \[0, 1\), temperature positive"):
        CRD(SAMPLES, "body", **options)


@pytest.mark.parametrize("wrong", [-1, SAMPLES])
def test_ids_out_of_range(wrong: int) -> None:
    distiller, _ = contrasting()
    with pytest.raises(LimbeckError, match=r"ids must be in 0\.\.10, got"):
        distiller(X, ids=torch.tensor([0, 1, 2, 3, 4, wrong]))


def test_before_prepare() -> None:
    distiller = Distiller(mlp(4), mlp(5, seed=1), CRD(SAMPLES, "body"))
    with pytest.raises(LimbeckError, match=r"no size yet; call distiller\.prepare"):
        distiller(X, ids=IDS)
    with pytest.raises(LimbeckError, match="reads 'ids' from the data"):
        distiller(X)


def test_it_adds_to_other_terms() -> None:
    term = CRD(SAMPLES, "body", negatives=5)
    distiller = Distiller(mlp(4), mlp(5, seed=1), 0.8 * term + Match(losses.kl))
    distiller.prepare(X, ids=IDS)
    step = distiller(X, ids=IDS)
    assert list(step.parts) == ["crd[body]", "kl"]
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach())
