"""Token methods: what is matched, what trains, what padding may hold, what is saved."""

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distiller, methods
from limbeck.errors import LimbeckError
from limbeck.methods import layers
from limbeck.methods.layers import attentions, named, uniform
from limbeck.methods.restoration import Generation
from limbeck.methods.rows_token import ROWS
from limbeck.objective import Objective
from limbeck.signals import Signals
from limbeck.tokens import causal

each = pytest.mark.parametrize
HEADS = 2


class Block(nn.Module):
    """Attention of queries and keys whose names are those of a tap."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in "qkv")

    def forward(self, x: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        q, k, v = (
            f(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        scores = (q @ k.mT) / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~real[:, None, None, :], -torch.inf)
        return x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2), scores


class Text(nn.Module):
    """Token ids (B, N) to logits over 7 tokens, with all states and scores."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 7)

    def forward(self, ids: Tensor, real: Tensor) -> dict[str, Any]:
        x, scores = self.embed(ids), []
        states = [x]
        for block in self.blocks:
            x, seen = block(x, real)
            states.append(x)
            scores.append(seen)
        logits = self.head(x)
        return {
            "logits": logits,
            "hidden_states": states,
            "scores": scores,
            "first": logits[:, 0],
            "pooled": x[:, 0],
        }


class Vision(nn.Module):
    """Images (B, 3, 8, 8) to 3 classes by way of 17 tokens, the first a class."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width + 1, 2, stride=2)
        self.first = nn.Parameter(torch.zeros(1, 1, width + 1))
        self.blocks = nn.ModuleList(nn.Linear(width + 1, width + 1) for _ in range(3))
        self.head = nn.Linear(width + 1, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).mT
        x = torch.cat([self.first.expand(len(x), -1, -1), x], 1)
        for block in self.blocks:
            x = block(x).tanh()
        return self.head(x.mean(1))


class Setting(NamedTuple):
    make: Callable[[], Objective]
    width: int = 6  # of the teacher; the student's is 4


STATES, QKV = "output.hidden_states.{}", ("blocks.1.q", "blocks.1.k", "blocks.1.v")
DEEP = ("blocks.3.q", "blocks.3.k", "blocks.3.v")
LAYERS = uniform(2, 4)
TEXT = {
    "token_kd": Setting(lambda: methods.token_kd(2.0)),
    "topk_tail_kd": Setting(lambda: methods.topk_tail_kd(3)),
    "uld": Setting(methods.uld),
    "distilbert": Setting(
        lambda: methods.distilbert(
            states="output.hidden_states.2", theirs="output.hidden_states.4"
        ),
        4,
    ),
    "tinybert": Setting(
        lambda: methods.tinybert(
            named(LAYERS, STATES), named(attentions(LAYERS), "output.scores.{}")
        )
    ),
    "minilm": Setting(lambda: methods.minilm(QKV, DEEP, heads=HEADS)),
    "minilmv2": Setting(lambda: methods.minilmv2(QKV, DEEP, heads=1)),
}
SENTENCES = {
    "pkd_bert": Setting(
        lambda: methods.pkd_bert(
            named(layers.last(2, 4), STATES), student="output.first", truth_weight=0
        ),
        4,
    ),
    "margin_mse": Setting(lambda: methods.margin_mse("output.first")),
    "embedding_mse": Setting(lambda: methods.embedding_mse("output.pooled")),
    "embedding_cosine": Setting(lambda: methods.embedding_cosine("output.pooled"), 4),
}
IMAGES = {
    "vitkd": Setting(
        lambda: methods.vitkd(
            [("blocks.0", "blocks.0"), ("blocks.1", "blocks.1")], ("blocks.2", "blocks.2")
        )
    ),
    "vitkd of one width": Setting(
        lambda: methods.vitkd([("blocks.0", "blocks.0")], ("blocks.2", "blocks.2")), 4
    ),
}
MAKE = TEXT | SENTENCES | IMAGES

LENGTHS = torch.tensor([5, 3, 4])
REAL = torch.arange(5) < LENGTHS[:, None]
IDS = torch.randint(0, 7, (3, 5), generator=torch.Generator().manual_seed(0))
TARGET, TAUGHT = causal(IDS, REAL)
PICTURES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))
CLASSES = torch.tensor([0, 1, 2, 1, 0, 2])


def batch(name: str, ids: Tensor = IDS) -> tuple[Any, dict[str, Tensor]]:
    """Inputs and data of a method."""
    if name in IMAGES:
        return PICTURES, {"target": CLASSES}
    counted = TAUGHT if name in ("token_kd", "topk_tail_kd", "uld") else REAL
    return {"ids": ids, "real": REAL}, {"target": TARGET, "mask": counted}


def build(name: str, seed: int = 0) -> tuple[Distiller, nn.Module]:
    setting = MAKE[name]
    torch.manual_seed(seed)
    student: nn.Module = Vision(4) if name in IMAGES else Text(4, 2)
    torch.manual_seed(9)
    teacher: nn.Module = Vision(setting.width) if name in IMAGES else Text(setting.width, 4)
    torch.manual_seed(seed)
    distiller = Distiller(student, teacher, 1.0 * setting.make())
    inputs, data = batch(name)
    distiller.prepare(inputs, **data)
    return distiller, teacher


def train(distiller: Distiller, name: str, steps: int) -> Tensor:
    """The loss of the last step."""
    optimizer = torch.optim.SGD(distiller.parameters(), 0.005)
    inputs, data = batch(name)
    loss = torch.zeros(())
    for step in range(steps):
        torch.manual_seed(step)
        loss = distiller(inputs, **data).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.detach()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_every_method_of_the_index_is_there_by_all_its_names() -> None:
    for row in ROWS:
        function = getattr(methods, row.name)
        assert all(getattr(methods, alias) is function for alias in row.aliases), row.name
    assert {row.name for row in ROWS} == {name.split()[0] for name in MAKE}


@each("name", MAKE)
def test_parts_sum_to_the_loss(name: str) -> None:
    distiller, _ = build(name)
    inputs, data = batch(name)
    step = distiller(inputs, **data)
    assert list(step.parts) == distiller.objective.parts()
    assert all(part.isfinite() for part in step.parts.values())
    assert all(part > 0 for part in step.parts.values())
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach())


@each("name", MAKE)
def test_the_gradient_reaches_the_student_and_what_the_method_owns(name: str) -> None:
    distiller, teacher = build(name)
    before = state(teacher)
    inputs, data = batch(name)
    distiller(inputs, **data).loss.backward()
    for parameter, value in distiller.objective.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
    reached = [
        p.grad is not None and p.grad.abs().sum() > 0 for p in distiller.student.parameters()
    ]
    assert any(reached)
    assert all(value.grad is None for value in teacher.parameters())
    assert same(before, state(teacher))


@each("name", MAKE)
def test_training_lowers_the_loss_and_resumes_to_the_same_bits(name: str) -> None:
    distiller, _ = build(name)
    first = train(distiller, name, 1)
    train(distiller, name, 5)
    again, _ = build(name, seed=3)
    again.load_state_dict(state(distiller))
    copied = copy.deepcopy(distiller)
    last = train(distiller, name, 1)
    assert last < first
    for other in (again, copied):
        assert torch.equal(train(other, name, 1), last)
        assert same(state(other), state(distiller))


@each("name", TEXT)
def test_what_stands_in_the_padding_does_not_matter(name: str) -> None:
    distiller, _ = build(name)
    changed = torch.where(REAL, IDS, 6 - IDS)
    assert not torch.equal(changed, IDS)
    values = []
    for ids in (IDS, changed):
        inputs, data = batch(name, ids)
        values.append(distiller(inputs, **data).loss.item())
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@each("name", [name for name in TEXT if name != "tinybert"])
def test_methods_without_a_mask_ask_for_none(name: str) -> None:
    keys: dict[str, Any] = {"mask": None}
    if name.startswith("minilm"):
        keys["student"] = QKV
    needs = getattr(methods, name)(**keys).needs()
    assert ("data", "mask") not in needs


def restored(extra: int) -> tuple[Generation, Signals]:
    objective = Generation("h", extra=extra)
    s, t = torch.randn(2, 2, extra + 9, 4).unbind(0)
    found = Signals(student={"h": s}, teacher={"h": t})
    objective.prepare(found)
    return objective, found


@each("extra", [0, 1, 3])
def test_generation_sees_patches_alone_and_scores_what_it_replaced(extra: int) -> None:
    objective, found = restored(extra)
    torch.manual_seed(0)
    value = objective(found)["generation[h]"]
    for side in ("student", "teacher"):
        found[side]["h"][:, :extra] = torch.nan
    torch.manual_seed(0)
    torch.testing.assert_close(objective(found)["generation[h]"], value)
    assert objective.restorer is not None
    torch.manual_seed(0)
    patches, replaced = objective.restorer(found["student"]["h"])
    assert replaced.sum(1).tolist() == [5, 5]
    errors = (patches - found["teacher"]["h"][:, extra:]).square().sum(-1)
    torch.testing.assert_close(errors[replaced].mean(), value)


def test_generation_hides_what_it_replaces() -> None:
    objective, found = restored(0)
    assert objective.restorer is not None
    s = found["student"]["h"].requires_grad_()
    torch.manual_seed(0)
    value = objective(found)["generation[h]"]
    torch.manual_seed(0)
    replaced = objective.restorer.mask(s)
    (by_student,) = torch.autograd.grad(value, s)
    assert by_student[replaced].count_nonzero() == 0
    assert (by_student[~replaced].abs().sum(-1) > 0).any()


@each(
    ("make", "message"),
    [
        (lambda: Generation("blocks.0", ratio=1.0), "ratio must be between 0 and 1, got 1.0"),
        (lambda: methods.pkd_bert([]), "pkd_bert needs at least one pair of layers, got none"),
    ],
)
def test_what_makes_no_method_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        make()


@each(
    ("objective", "message"),
    [
        (Generation("blocks.0", "patch"), r"must be \(B, N, D\) of the same tokens, got"),
        (Generation("blocks.0", extra=2), "grid of 3 x 3 after 0 extra tokens, got 15"),
    ],
)
def test_signals_that_do_not_fit_are_refused(objective: Objective, message: str) -> None:
    with pytest.raises(LimbeckError, match=message):
        Distiller(Vision(4), Vision(6), 1.0 * objective).prepare(PICTURES)


def test_before_prepare_nothing_has_a_size() -> None:
    distiller = Distiller(Vision(4), Vision(6), 1.0 * Generation("blocks.0"))
    with pytest.raises(LimbeckError, match=r"call distiller.prepare\(inputs\) first"):
        distiller(PICTURES)
