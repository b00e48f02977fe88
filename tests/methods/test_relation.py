"""The relation methods: the papers' weights, and who trains."""

from collections.abc import Callable

import pytest
import torch
from tests.networks import Convs
from torch import Tensor

from limbeck import Distiller, Objective, losses, methods

METHODS = {
    "rkd": lambda: methods.rkd("act"),
    "pkt": lambda: methods.pkt("act"),
    "sp": lambda: methods.sp("act"),
    "cc": lambda: methods.cc("act"),
    "ickd": lambda: methods.ickd("act"),
    "irg": lambda: methods.irg(("norm", "act")),
    "linear_cka": lambda: methods.linear_cka("act"),
    "crd": lambda: methods.crd(9, "act", negatives=5, width=4),
}
X = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
DATA = {"target": torch.arange(6) % 3, "ids": torch.tensor([3, 8, 0, 1, 7, 2])}


def networks() -> tuple[Convs, Convs]:
    torch.manual_seed(0)
    return Convs(4), Convs(6)


def layers(net: Convs) -> tuple[Tensor, Tensor, Tensor]:
    """Two layers of one width, and the logits."""
    norm = net.norm(net.conv(X))
    return norm, norm.relu(), net.head(norm.relu().mean((2, 3)))


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
def test_parts_sum_to_the_loss_and_the_gradient_goes_to_the_student_and_its_own(
    make: Callable[[], Objective],
) -> None:
    student, teacher = networks()
    distiller = Distiller(student, teacher, make())
    distiller.prepare(X, **DATA)
    step = distiller(X, **DATA)
    assert next(iter(step.parts)) == "truth"
    torch.testing.assert_close(sum(step.parts.values()), step.loss.detach())
    step.loss.backward()
    trained = dict(distiller.named_parameters())
    assert not [name for name, p in trained.items() if p.grad is None]
    assert any(p.grad.abs().sum() > 0 for p in student.parameters() if p.grad is not None)
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize(
    ("method", "right"),
    [
        (
            lambda: methods.pkt("act"),
            lambda s, t: {"pkt[act]": 30000 / 64 * losses.pkt(s[1], t[1])},
        ),
        (lambda: methods.sp("act"), lambda s, t: {"sp[act]": 3000 / 64 * losses.sp(s[1], t[1])}),
        (lambda: methods.cc("act"), lambda s, t: {"cc[act]": 100 * losses.cc(s[1], t[1])}),
        (
            lambda: methods.linear_cka("act"),
            lambda s, t: {"linear_cka[act]": losses.linear_cka(s[1], t[1])},
        ),
        (
            lambda: methods.rkd("act"),
            lambda s, t: {
                "rkd_distance[act]": 25 * losses.rkd_distance(s[1], t[1]),
                "rkd_angle[act]": 50 * losses.rkd_angle(s[1], t[1]),
            },
        ),
        (
            lambda: methods.rkd("act", samples=4),
            lambda s, t: {
                "rkd_distance[act]": 25 * losses.rkd_distance(s[1], t[1]),
                "rkd_angle[act]": 50 * losses.rkd_angle(s[1], t[1], samples=4),
            },
        ),
        (
            lambda: methods.irg(("norm", "act")),
            lambda s, t: {
                "irg_vertex": 0.1 * ((s[2] - t[2]) ** 2).mean(),
                "irg_edge[act]": 5 * losses.irg_edge(s[1], t[1]),
                "irg_transform[norm]": 5 * losses.irg_transform(s[0], t[0], s[1], t[1]),
            },
        ),
    ],
)
def test_weights_of_the_papers(
    method: Callable[[], Objective],
    right: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], dict[str, Tensor]],
) -> None:
    student, teacher = networks()
    parts = Distiller(student, teacher, method())(X, **DATA).parts
    expected = right(layers(student), layers(teacher.eval()))
    assert parts.keys() == expected.keys() | {"truth"}
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value.detach(), rtol=1e-5, atol=1e-7)


def test_weights_of_what_owns_parameters() -> None:
    ickd, crd = methods.ickd("act").weighted(), methods.crd(9, "act").weighted()
    assert [weight.setting for weight, _ in ickd] == [1, 2.5]
    assert [weight.setting for weight, _ in crd] == [1, 0.8]
    term = crd[1][1]
    assert (term.draw.each, term.width, term.temperature, term.momentum) == (16384, 128, 0.07, 0.5)


def test_crd_by_name_tells_classes_apart() -> None:
    term = methods.crd(4, "act", labels=torch.tensor([0, 0, 0, 1])).weighted()[1][1]
    assert set(term.draw(torch.tensor([3]), 0)[0, 1:].tolist()) == {0, 1, 2}
    assert set(term.draw(torch.tensor([1]), 0)[0, 1:].tolist()) == {3}


def test_no_truth_at_weight_zero() -> None:
    assert methods.sp("act", truth_weight=0).parts() == ["sp[act]"]
    assert methods.crd(9, "act", truth_weight=0).parts() == ["crd[act]"]


@pytest.mark.parametrize(
    ("alias", "name"), [("cka", "linear_cka"), ("similarity_preserving", "sp")]
)
def test_other_names_of_the_field(alias: str, name: str) -> None:
    assert getattr(methods, alias) is getattr(methods, name)
