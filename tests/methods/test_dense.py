"""Dense methods: what trains, what is frozen, what is saved, and that they are what they say."""

import copy
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distiller, losses, methods
from limbeck.errors import LimbeckError
from limbeck.losses.detection import align
from limbeck.methods.focal import FGD, Context
from limbeck.methods.rows_dense import ROWS
from limbeck.objective import Objective
from limbeck.reader import Reader

each = pytest.mark.parametrize
Make = Callable[["Net"], Objective]
CLASSES, BINS, SIZE = 3, 5, 4


class Net(nn.Module):
    """A map of features, classes and sides for each position of 4 x 4, two pixels wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1)
        self.neck = nn.Conv2d(width, width, 3, padding=1)
        self.deep = nn.MaxPool2d(2)
        self.branch = nn.Conv2d(width, 4, 1)
        self.classes = nn.Conv2d(4, CLASSES, 1)
        self.sides = nn.Conv2d(4, 4 * BINS, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.neck(self.stem(x).relu())
        self.deep(f)
        f = self.branch(f)
        self.sides(f)
        return self.classes(f)


def rows(x: Tensor) -> Tensor:
    """(B, C, H, W) as (B, H*W, C)."""
    return x.flatten(2).movedim(1, 2)


def decoded(sides: Tensor) -> Tensor:
    """Boxes (B, H*W, 4) around positions, from the first bin of each side."""
    size = rows(sides).unflatten(-1, (4, BINS))[..., 0].exp()
    return torch.cat([-size[..., :2], size[..., 2:]], -1)


NAMES: Mapping[str, Any] = {
    "bins": lambda s: rows(s["sides"]).unflatten(-1, (4, BINS)),
    "boxes": lambda s: decoded(s["sides"]),
    "logits": lambda s: rows(s["output"]),
    "score": lambda s: rows(s["output"]).sigmoid().amax(-1),
    "sides": "sides",
}
OWN: dict[str, Make] = {  # what owns parameters
    "cwd": lambda t: methods.cwd("neck"),
    "pkd": lambda t: methods.pkd("neck", mask="data:valid"),
    "fgd": lambda t: methods.fgd("neck", stride=2),
    "fgfi": lambda t: methods.fgfi("neck", stride=2, anchors=[(4, 4), (6, 3)]),
    "defeat": lambda t: methods.defeat(["neck", "deep"], strides=[2, 4]),
    "score_weighted_l2": lambda t: methods.score_weighted_l2("neck", logits="teacher:output"),
}
BARE: dict[str, Make] = {
    "pixel_kd": lambda t: methods.pixel_kd(mask="data:valid", temperature=2.0),
    "cwd_logits": lambda t: methods.cwd_logits(mask="data:valid"),
    "skd": lambda t: methods.skd("neck"),
    "ifvd": lambda t: methods.ifvd("neck", classes=CLASSES),
    "cirkd": lambda t: methods.cirkd("neck", mask="data:valid"),
    "ld": lambda t: methods.ld("bins", mask="data:near"),
    "bckd": lambda t: methods.bckd(mask="data:near"),
    "crosskd": lambda t: methods.crosskd(("branch", "branch"), head=(t.classes, t.sides)),
}
MAKE = OWN | BARE
PAPERS: dict[str, tuple[list[float], dict[str, float]]] = {  # weights, and options of the last term
    "pixel_kd": ([1, 1], {}),
    "cwd": ([1, 50], {"temperature": 1}),
    "cwd_logits": ([1, 3], {"temperature": 4}),
    "skd": ([1, 10, 1], {"scale": 0.5}),
    "ifvd": ([1, 10, 200], {}),
    "cirkd": ([1, 1, 1], {"temperature": 0.1}),
    "pkd": ([6], {}),
    "fgd": ([1], {"temperature": 0.5, "foreground": 1e-3, "background": 5e-4, "channel": 5e-4}),
    "fgfi": ([0.01], {}),
    "defeat": ([0.5, 0.5], {"foreground": 3, "background": 12}),
    "ld": ([0.25], {"temperature": 10}),
    "bckd": ([1, 4], {}),
    "crosskd": ([1], {}),
    "score_weighted_l2": ([6], {}),
}
LABELLED = {"cwd", "pixel_kd", "cwd_logits", "skd", "ifvd", "cirkd"}
random = torch.Generator().manual_seed(0)
X = torch.randn(4, 3, 2 * SIZE, 2 * SIZE, generator=random)
DATA = {
    "target": torch.randint(0, CLASSES, (4, SIZE, SIZE), generator=random),
    "valid": torch.rand(4, SIZE, SIZE, generator=random) < 0.8,
    "near": torch.rand(4, SIZE * SIZE, generator=random) < 0.5,
    "boxes": torch.tensor([[[0.0, 0, 3, 5], [2, 2, 7, 7]], [[1, 1, 6, 4], [0, 0, -1, -1]]]).repeat(
        2, 1, 1
    ),
}


def net(width: int, seed: int) -> Net:
    torch.manual_seed(seed)
    return Net(width)


def build(name: str, seed: int = 0) -> tuple[Distiller, Net]:
    """A prepared distiller of a narrow student beside a wide teacher."""
    student, teacher = net(4, seed), net(6, 1)
    torch.manual_seed(seed)
    readers = (Reader(model, names=NAMES) for model in (student, teacher))
    distiller = Distiller(*readers, MAKE[name](teacher))
    distiller.prepare(X, **DATA)
    return distiller, teacher


def train(distiller: Distiller, steps: int) -> Tensor:
    """The loss of the last step."""
    optimizer = torch.optim.SGD(distiller.parameters(), 1e-3)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = distiller(X, **DATA).loss
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
        assert callable(function), row.name
        assert all(getattr(methods, alias) is function for alias in row.aliases), row.name
    assert {row.name for row in ROWS} == set(MAKE)
    assert {row.name for row in ROWS if row.parameters != "none"} == set(OWN)


@each("name", MAKE)
def test_parts_are_positive_and_sum_to_the_loss(name: str) -> None:
    distiller, _ = build(name)
    step = distiller(X, **DATA)
    assert list(step.parts) == distiller.objective.parts()
    assert ("truth" in step.parts) == (name in LABELLED)
    assert all(part.isfinite() and part > 0 for part in step.parts.values())
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach())


@each("name", MAKE)
def test_the_gradient_reaches_the_student_and_what_the_method_owns(name: str) -> None:
    distiller, teacher = build(name)
    before = state(teacher)
    train(distiller, 1)  # FGD's contexts add nothing before
    distiller.zero_grad()
    parts = distiller.objective(distiller.gather(X, DATA)[1])
    torch.stack([value for part, value in parts.items() if part != "truth"]).sum().backward()
    for parameter in (distiller.student.stem.weight, *distiller.objective.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    assert distiller.student.stem.weight.grad.count_nonzero() > 0
    assert (len(list(distiller.objective.parameters())) > 0) == (name in OWN)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert same(state(teacher), before)


@each("name", MAKE)
def test_nothing_of_the_teacher_trains_or_is_saved(name: str) -> None:
    distiller, teacher = build(name)
    theirs = {id(x) for x in (*teacher.parameters(), *teacher.buffers())}
    own = [*distiller.parameters(), *distiller.state_dict(keep_vars=True).values()]
    assert not theirs & {id(x) for x in own}


@each("name", MAKE)
def test_the_source_is_held_still(name: str) -> None:
    distiller, _ = build(name)
    _, signals = distiller.gather(X, DATA)
    theirs = {key: x.detach().requires_grad_() for key, x in signals["teacher"].items()}
    parts = distiller.objective(type(signals)({**signals, "teacher": theirs}))
    torch.stack(list(parts.values())).sum().backward()
    assert theirs
    assert all(x.grad is None for x in theirs.values())


@each("name", MAKE)
def test_weights_of_the_papers(name: str) -> None:
    weights, options = PAPERS[name]
    *_, (_, last) = pairs = MAKE[name](net(6, 1)).weighted()
    assert [weight.setting for weight, _ in pairs] == weights
    assert options.items() <= vars(last).get("options", {}).items()


@each("name", MAKE)
def test_training_brings_the_student_nearer(name: str) -> None:
    distiller, _ = build(name)
    before = distiller(X, **DATA).loss
    assert train(distiller, 4) < before


@each("name", ["fgd", "crosskd"])
def test_copies_train_alike(name: str) -> None:
    distiller, _ = build(name)
    copied = copy.deepcopy(distiller)
    assert torch.equal(train(copied, 2), train(distiller, 2))


def test_a_copy_by_pickle_trains_alike() -> None:
    teacher = net(6, 1)
    distiller = Distiller(net(4, 0), teacher, methods.fgd("neck", stride=2))
    distiller.prepare(X, **DATA)
    copied = pickle.loads(pickle.dumps(distiller))
    assert torch.equal(train(copied, 2), train(distiller, 2))


@each("name", OWN)
def test_preparing_twice_keeps_what_was_made(name: str) -> None:
    distiller, _ = build(name)
    before = state(distiller)
    distiller.prepare(X, **DATA)
    assert same(state(distiller), before)


@each("name", OWN)
def test_what_has_no_size_yet_asks_for_prepare(name: str) -> None:
    teacher = net(6, 1)
    distiller = Distiller(net(4, 0), teacher, MAKE[name](teacher))
    with pytest.raises(LimbeckError, match=r"no size yet; call distiller.prepare\(inputs\)"):
        distiller(X, **DATA)


@each("name", MAKE)
def test_under_autocast(name: str) -> None:
    distiller, _ = build(name)
    with torch.autocast("cpu", torch.bfloat16):
        loss = distiller(X, **DATA).loss
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()


@each("name", ["pixel_kd", "cwd_logits"])
def test_void_pixels_do_not_matter_to_the_pixels_term(name: str) -> None:
    distiller, _ = build(name)
    part = distiller.objective.parts()[1]
    expected = distiller(X, **DATA).parts[part]
    _, signals = distiller.gather(X, DATA)
    wild = signals["student"]["output"].masked_fill(~DATA["valid"][:, None], 1e4)
    other = {**signals, "student": {**signals["student"], "output": wild}}
    torch.testing.assert_close(
        distiller.objective(type(signals)(other))[part].detach(), expected, rtol=1e-6, atol=0
    )


def test_fgd_weighs_the_positions_that_prepare_saw() -> None:
    distiller, _ = build("fgd")
    term = next(m for m in distiller.modules() if isinstance(m, FGD))
    _, signals = distiller.gather(X, DATA)
    s, t = signals["student"]["neck"], signals["teacher"]["neck"]
    s = term.projector(s)
    positions = SIZE * SIZE
    options = {"stride": 2, "foreground": 1e-3, "background": 5e-4, "channel": 5e-4}
    focal = losses.fgd(s, t, DATA["boxes"], spatial=5e-4 * positions, **options)
    context = 5e-6 * (s - t).square().sum((1, 2, 3)).mean()
    expected = torch.stack([focal, context])
    torch.testing.assert_close(torch.stack(list(term(signals).values())), expected)


def test_a_context_adds_one_vector_to_every_position() -> None:
    torch.manual_seed(0)
    context, f = Context(6), torch.randn(2, 6, 3, 4)
    assert torch.equal(context(f), f)
    nn.init.normal_(context.what[-1].weight)
    added = context(f) - f
    torch.testing.assert_close(added, added[..., :1, :1].expand_as(added))
    assert added.abs().min() > 0


def test_crosskd_reads_aligned_features_with_the_frozen_head() -> None:
    distiller, teacher = build("crosskd")
    _, signals = distiller.gather(X, DATA)
    s, t = signals["student"]["branch"], signals["teacher"]["branch"]
    crossed = align(s, t)
    logits = teacher.classes(crossed), teacher.classes(t)
    bins = [rows(teacher.sides(f)).unflatten(-1, (4, BINS)) for f in (crossed, t)]
    score = rows(logits[1]).sigmoid().amax(-1)
    expected = [
        losses.bckd_cls(*logits, axis=1),
        4 * losses.ld(*bins, score, temperature=1.0),
    ]
    parts = distiller.objective(signals)
    torch.testing.assert_close(torch.stack(list(parts.values())), torch.stack(expected))


@each(("theirs", "strides"), [(None, [2]), (["neck"], [2, 4]), (["neck", "deep", "stem"], [2, 4])])
def test_defeat_refuses_levels_without_a_partner(
    theirs: list[str] | None, strides: list[float]
) -> None:
    with pytest.raises(LimbeckError, match="as many of the source's levels and strides"):
        methods.defeat(["neck", "deep"], theirs, strides=strides)


def test_crosskd_refuses_heads_of_two_widths_by_name() -> None:
    teacher = net(6, 1)
    objective = methods.crosskd(("neck", "neck"), head=(teacher.classes, teacher.sides))
    distiller = Distiller(net(4, 0), teacher, objective)
    with pytest.raises(LimbeckError, match=r"student 'neck' .* against teacher 'neck'"):
        distiller(X, **DATA)
