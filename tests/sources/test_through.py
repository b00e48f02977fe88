"""A source whose signals carry the student's gradient through frozen layers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import Distiller, Match, Mutual, Through, losses
from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources import Source

FEATURES = 4


def network(seed: int) -> nn.Sequential:
    """A body, `0`, and a head, `1`, whose batch norm and dropout would show a wrong mode."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Linear(8, FEATURES), nn.ReLU())
    head = nn.Sequential(nn.BatchNorm1d(FEATURES), nn.Dropout(0.5), nn.Linear(FEATURES, 3))
    nn.init.uniform_(head[0].running_mean)
    return nn.Sequential(body, head)


def images() -> Tensor:
    return torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


def grads(module: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in module.parameters()]


def crossed(student: nn.Module, teacher: nn.Sequential, match: Match) -> Distiller:
    return Distiller(student, {"teacher": teacher, "head": Through(teacher[1], of="0")}, match)


def by_hand(student: nn.Sequential, teacher: nn.Sequential) -> list[Tensor]:
    teacher.eval()
    with torch.no_grad():
        t = teacher(images())
    loss = F.mse_loss(teacher[1](student[0](images())), t)
    return list(torch.autograd.grad(loss, list(student[0].parameters())))


def test_the_gradient_is_that_of_the_layers() -> None:
    student, teacher = network(0), network(1)
    state = {k: v.clone() for k, v in teacher.state_dict().items()}
    match = Match(losses.logit_mse, student="head:output")
    distiller = crossed(student.train(), teacher.train(), match)
    distiller(images()).loss.backward()
    for mine, plain in zip(grads(student[0]), by_hand(student, teacher), strict=True):
        torch.testing.assert_close(mine, plain)
    assert grads(student[1]) == [None] * 4
    assert grads(teacher) == [None] * 6
    assert not teacher[1].training
    assert all(torch.equal(v, state[k]) for k, v in teacher.state_dict().items())
    assert not any("head" in name for name, _ in distiller.named_parameters())


def test_either_side_of_a_match_has_the_gradient() -> None:
    student, teacher = network(0), network(1)
    match = Match(losses.logit_mse, source="head")  # of the student's own output and the head's
    crossed(student.eval(), teacher, match)(images()).loss.backward()
    ours = [p.grad for p in student.parameters()]
    student.zero_grad()
    loss = F.mse_loss(student(images()), teacher[1](student[0](images())))
    loss.backward()
    for mine, plain in zip(ours, grads(student), strict=True):
        torch.testing.assert_close(mine, plain)


class Leaky(Source):
    """Says what the student says, with its gradient, but does not declare it."""

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        return {want: signals.of("student", "0") for want in wants}

    def reads(self, wants: Sequence[str]) -> list[str]:
        return ["0"]


def test_a_match_detaches_every_other_source() -> None:
    student = network(0).eval()
    match = Match(losses.logit_mse, student="0", source="leaky")
    Distiller(student, {"leaky": Leaky()}, match)(images()).loss.backward()
    assert all(g is not None and not g.any() for g in grads(student[0]))


def test_it_takes_several_signals_and_its_own_precision() -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(FEATURES, 3, dtype=torch.float64)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"logits": self.linear(x + y)}

    student, layers = network(0).eval(), Sums()
    match = Match(losses.logit_mse, student="sum:output.logits", theirs="output", source="sum")
    source = Through(layers, of=["0", "0.0"], names={"output": "output.logits"})
    signals = Signals(student={"0": torch.ones(2, 4), "0.0": torch.ones(2, 4)})
    said = source(Batch(None), signals, ["output.logits"])["output.logits"]
    torch.testing.assert_close(said, layers(torch.full((2, 4), 2.0).double(), 0)["logits"])
    step = Distiller(student, {"sum": source}, match)(images())
    assert step.loss == 0
    step.loss.backward()
    assert layers.linear.weight.grad is None


def test_each_student_of_a_group_may_have_one() -> None:
    students, teacher = {"a": network(0), "b": network(1)}, network(2)
    match = Match(losses.logit_mse, student="head:output", theirs="output", source="teacher")
    heads = {name: {"head": Through(teacher[1], of="0")} for name in students}
    mutual = Mutual(students, match, sources={"teacher": teacher, **by_source(heads)})
    mutual(images()).loss.backward()
    for student in students.values():
        for mine, plain in zip(grads(student[0]), by_hand(student, teacher), strict=True):
            torch.testing.assert_close(mine, plain)


def by_source(heads: Mapping[str, Mapping[str, Source]]) -> dict[str, dict[str, Source]]:
    return {"head": {name: found["head"] for name, found in heads.items()}}


def test_a_frozen_teacher_on_the_students_side_is_refused() -> None:
    student, teacher = network(0), network(1)
    distiller = Distiller(student, teacher, Match(losses.kl, student="teacher:output"))
    with pytest.raises(LimbeckError, match="no gradient reaches the student through 'teacher:out"):
        distiller(images())


def test_faults_are_named() -> None:
    teacher = network(1)
    with pytest.raises(LimbeckError, match="must be given signals of the student, got none"):
        Through(teacher[1], of=[])
    wider = Match(losses.kl, source="head")
    with pytest.raises(LimbeckError, match=r"Through cannot take the student's \['1'\]"):
        Distiller(network(0), {"head": Through(teacher[1], of="1")}, wider)(images())
    with pytest.raises(LimbeckError, match="9"):
        Distiller(
            network(0), {"head": Through(teacher[1], of="9")}, Match(losses.kl, source="head")
        )
    match = Match(losses.kl, student="had:output", theirs="output")
    with pytest.raises(LimbeckError, match=r"reads from 'had'.*did you mean 'head'"):
        crossed(network(0), teacher, match)
