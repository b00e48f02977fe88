"""The parts of feature methods: frozen heads, margins, masks, fusions, and what SimKD ships."""

from typing import Any

import pytest
import torch
from tests.methods.test_feature import Net, X, Y, build, net, train
from torch import nn

from limbeck import Distiller, losses, methods
from limbeck.errors import LimbeckError
from limbeck.hidden import Hidden
from limbeck.methods.factors import Paraphraser
from limbeck.methods.generation import Generator, generator
from limbeck.methods.gradients import InputGradient
from limbeck.methods.margins import Overhaul, margins
from limbeck.methods.regression import Regression
from limbeck.methods.reuse import SimKD
from limbeck.methods.review import ReviewKD
from limbeck.signals import Signals

each = pytest.mark.parametrize


# ---- Jacobian matching


def test_input_gradients_are_those_of_the_true_logit() -> None:
    model = net(4, 0)
    answer = InputGradient(model)(X, Y)
    for i in range(len(X)):
        x = X[i : i + 1].clone().requires_grad_()
        (expected,) = torch.autograd.grad(model(x)[0, Y[i]], x)
        torch.testing.assert_close(answer["gradient"][i : i + 1], expected)
    assert torch.equal(answer["logits"], model(X))
    with torch.no_grad():
        silent = InputGradient(model)(X, Y)
    assert not any(value.requires_grad for value in silent.values())
    torch.testing.assert_close(silent["gradient"], answer["gradient"])


def test_jacobian_matching_trains_through_a_double_backward() -> None:
    student, teacher = InputGradient(net(4, 0)), InputGradient(net(6, 1))
    distiller = Distiller(student, teacher, methods.jacobian(truth_weight=0))
    distiller.prepare((X, Y))
    optimizer = torch.optim.SGD(student.parameters(), 0.003)
    values = []
    for _ in range(8):
        loss = distiller((X, Y)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.9 * values[0]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    step = Distiller(student, teacher, methods.jacobian())((X, Y), target=Y)
    assert list(step.parts) == ["truth", "jacobian"]


# ---- frozen parts


def test_a_hidden_part_passes_gradients_and_gets_none() -> None:
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 2)).train()
    hidden = Hidden(head)
    x = torch.ones(2, 3, requires_grad=True)
    hidden(x).sum().backward()
    torch.testing.assert_close(x.grad, head[1].weight.sum(0).expand(2, 3))
    assert all(p.grad is None and p.requires_grad for p in head.parameters())
    assert not head.training
    assert list(hidden.parameters()) == [] == list(hidden.state_dict())


def test_a_hidden_part_follows_devices_and_never_precision() -> None:
    head = nn.Linear(3, 2)
    hidden = Hidden(head).double()
    assert head.weight.dtype == torch.float32
    assert hidden(torch.ones(1, 3).double()).dtype == torch.float32
    hidden.to("meta")
    assert head.weight.device.type == "cpu"  # emptied never


def test_srrl_reads_features_with_the_frozen_classifier() -> None:
    head = nn.Linear(6, 3)
    s, t = torch.rand(2, 6, 4, 4), torch.rand(2, 6, 2, 2)
    a, b = s.mean((2, 3)), t.mean((2, 3))
    expected = (a - b).square().mean() + 0.5 * (head(a) - head(b)).square().mean()
    torch.testing.assert_close(Regression(head, 0.5)(s, t), expected)


# ---- margins


def test_margins_are_the_mean_of_what_is_negative() -> None:
    norm = nn.BatchNorm2d(4).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, -0.5, 2.0, 0.3]))
        norm.bias.copy_(torch.tensor([0.0, 0.4, -1.0, 5.0]))
    z = torch.linspace(-9, 9, 200_001).double()
    density = (-(z**2) / 2).exp()
    for c in range(3):
        x = norm.weight[c].abs() * z + norm.bias[c]
        below = density * (x < 0)
        expected = (x * below).sum() / below.sum()
        torch.testing.assert_close(margins(norm)[c], expected, rtol=1e-3, atol=1e-4)
    assert margins(norm)[3] == pytest.approx(-0.9)


def test_margins_of_a_norm_without_weights_and_of_a_dead_one() -> None:
    plain = margins(nn.BatchNorm2d(2, affine=False))
    torch.testing.assert_close(plain, torch.full((2,), -((2 / torch.pi) ** 0.5)))
    dead = nn.BatchNorm2d(3)
    with torch.no_grad():
        dead.weight.zero_()
        dead.bias.copy_(torch.tensor([-2.0, 0.0, 2.0]))
    torch.testing.assert_close(margins(dead), torch.tensor([-2.0, 0.0, 0.0]))


def test_margins_follow_the_objective_and_are_not_saved() -> None:
    loss = Overhaul(nn.BatchNorm2d(2)).double()
    assert loss.margin.dtype == torch.float64
    assert list(loss.state_dict()) == []


# ---- masked generation


def test_a_mask_is_shared_by_channels_or_by_positions_and_drawn_anew() -> None:
    s = torch.ones(3, 6, 5, 4)
    for positions, shape in ((True, (3, 1, 5, 4)), (False, (3, 6, 1, 1))):
        made = Generator((3, 6, 5, 4), (3, 6, 5, 4), ratio=0.5, positions=positions)
        first, second = made.keep(s), made.keep(s)
        assert first.shape == shape
        assert set(first.unique().tolist()) == {0.0, 1.0}
        assert not torch.equal(first, second)


@each(("ratio", "kept"), [(0.0, 1.0), (1.0, 0.0), (0.25, 0.75)])
def test_the_ratio_is_what_is_dropped(ratio: float, kept: float) -> None:
    torch.manual_seed(0)
    made = Generator((1, 2, 1, 1), (1, 2, 1, 1), ratio=ratio, positions=True)
    assert made.keep(torch.ones(50, 2, 40, 40)).mean().item() == pytest.approx(kept, abs=0.01)


def test_the_masked_source_is_the_whole_one() -> None:
    """With nothing kept the generator still has to say the source: the bias is all it has."""
    made = Generator((2, 4, 3, 3), (2, 4, 3, 3), ratio=1.0, positions=True)
    s = torch.rand(2, 4, 3, 3)
    assert torch.equal(made(s), made(0 * s))
    assert isinstance(made.align, nn.Identity)


@each("ratio", [-0.1, 1.5])
def test_a_ratio_outside_of_its_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"ratio must be in \[0, 1\], got"):
        generator(ratio, True)
    if ratio < 0:
        with pytest.raises(ValueError, match=r"rate must be in \(0, 1\], got"):
            Paraphraser(4, ratio)


# ---- factor transfer


def test_a_paraphraser_learns_to_reconstruct() -> None:
    torch.manual_seed(0)
    f = net(6, 1).deep(torch.rand(8, 6, 6, 6)).detach()
    made = Paraphraser(6)
    optimizer = torch.optim.Adam(made.parameters(), 0.01)
    values = []
    for _ in range(30):
        loss = losses.hint(made(f), f)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.5 * values[0]
    assert made.encoder(f).shape == (8, 3, 3, 3)


# ---- knowledge review


def test_stages_of_other_sizes_are_fused_from_the_deepest() -> None:
    shapes = {"a": (2, 3, 8, 6), "b": (2, 4, 4, 3), "c": (2, 5, 1, 1)}
    theirs = {"a": (2, 6, 8, 6), "b": (2, 7, 5, 3), "c": (2, 8, 1, 1)}
    review = ReviewKD(list("abc"))
    signals = Signals(
        student={k: torch.rand(v) for k, v in shapes.items()},
        teacher={k: torch.rand(v) for k, v in theirs.items()},
    )
    review.prepare(signals)
    deepest, *others = review.fusions
    assert deepest.attend is None
    assert all(fusion.attend is not None for fusion in others)
    assert [fusion.leave[0].out_channels for fusion in review.fusions] == [8, 7, 6]
    assert {fusion.enter[0].out_channels for fusion in review.fusions} == {5}
    assert review(signals)["reviewkd"] > 0


@each(
    ("student", "theirs"), [(["a", "b"], ["a"]), ([], None), ("layer4", None), (["a"], ["a", "b"])]
)
def test_stages_come_in_pairs(student: Any, theirs: Any) -> None:
    with pytest.raises(LimbeckError, match="as many stages of both sides, got"):
        ReviewKD(student, theirs)


def test_flat_signals_are_refused() -> None:
    distiller = Distiller(net(4, 0), net(6, 1), methods.reviewkd(["deep", "head"]))
    with pytest.raises(LimbeckError, match=r"needs maps \(B, C, H, W\), got \(4, 3\)"):
        distiller.prepare(X, target=Y)


@each("name", ["vid", "ft", "simkd", "mgd"])
def test_projectors_of_maps_refuse_flat_signals(name: str) -> None:
    teacher = net(6, 1)
    objective = {
        "vid": lambda: methods.vid("head"),
        "ft": lambda: methods.ft("head", paraphraser=Paraphraser(3)),
        "simkd": lambda: methods.simkd("head", classifier=teacher.head),
        "mgd": lambda: methods.mgd("head"),
    }[name]()
    with pytest.raises(LimbeckError, match=r"needs maps \(B, C, H, W\), got \(4, 3\)"):
        Distiller(net(4, 0), teacher, objective).prepare(X, target=Y)


# ---- SimKD ships the projector and the teacher's classifier


def trained() -> tuple[Distiller, SimKD, Net]:
    distiller, teacher = build("simkd")
    train(distiller, 3)
    assert isinstance(distiller.objective, SimKD)
    return distiller, distiller.objective, teacher


def test_the_deployable_student_answers_with_the_teachers_classifier() -> None:
    distiller, objective, teacher = trained()
    model = objective.deployable(distiller.student).eval()
    features = distiller.student.deep(
        distiller.student.act(distiller.student.norm(distiller.student.conv(X)))
    )
    expected = teacher.head(objective.projector(features).mean((2, 3)))
    torch.testing.assert_close(model(X), expected)
    assert not torch.allclose(model(X), distiller.student(X))
    assert model(X).shape == (4, 3)


def test_the_deployable_student_exports_and_loads_whole() -> None:
    distiller, objective, _ = trained()
    model = objective.deployable(distiller.student).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(model, (X,), dynamic_shapes=sizes).module()
    torch.testing.assert_close(exported(X[:3]), model(X[:3]))
    fresh, _ = build("simkd", seed=9)
    other = fresh.objective.deployable(fresh.student).eval()
    assert not torch.allclose(other(X), model(X))
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(X), model(X))
    names = {name.split(".")[0] for name in model.state_dict()}
    assert names == {"student", "projector", "classifier"}


def test_without_a_projector_nothing_is_deployable() -> None:
    objective = methods.simkd("deep", classifier=nn.Linear(6, 3))
    with pytest.raises(LimbeckError, match=r"no projector yet; call distiller.prepare\(inputs\)"):
        objective.deployable(net(4, 0))


@each(("student", "source"), [((8, 8), (4, 4)), ((4, 4), (7, 7)), ((5, 3), (3, 5))])
def test_the_larger_map_is_pooled(student: tuple[int, int], source: tuple[int, int]) -> None:
    objective = methods.simkd("a", classifier=nn.Linear(6, 3))
    signals = Signals(
        student={"a": torch.rand(2, 4, *student)}, teacher={"a": torch.rand(2, 6, *source)}
    )
    objective.prepare(signals)
    size = tuple(map(min, student, source))
    assert objective.projector(signals["student"]["a"]).shape == (2, 6, *size)
    assert objective(signals)["simkd[a]"] > 0
