"""A projector that warms up on a frozen student; what would learn nothing is refused."""

from collections.abc import Callable

import pytest
import torch
from tests.networks import batch, gradients, mlp
from torch import nn
from torch.utils.checkpoint import checkpoint

from limbeck import Distiller, Match, Reader, losses, truth
from limbeck.errors import LimbeckError
from limbeck.projectors import linear

X, Y = batch()
each = pytest.mark.parametrize


class Blocks(nn.Module):
    """Two blocks, the first of which may run under a reentrant checkpoint."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Linear(4, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
        self.head = nn.Linear(8, 3)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        if self.checkpointed:
            return self.head(checkpoint(self.block, x, use_reentrant=True))
        return self.head(self.block(x))


def frozen(*names: str, checkpointed: bool = False) -> Blocks:
    student = Blocks(checkpointed)
    for name in names:
        student.get_submodule(name).requires_grad_(False)
    return student


def hint(path: str) -> Match:
    return Match(losses.hint, path, "body", project=linear)


def make(student: nn.Module | Reader, objective: Match) -> Distiller:
    torch.manual_seed(0)
    distiller = Distiller(student, mlp(5, seed=1), 1.0 * objective)
    distiller.prepare(X)
    return distiller


PLACES: list[tuple[Callable[[], nn.Module | Reader], str]] = [
    (lambda: frozen(""), "block"),
    (lambda: frozen(""), "block.1"),
    (lambda: frozen(""), "output"),
    (lambda: frozen("stem", "block"), "block"),
    (lambda: Reader(frozen("stem", "block"), names={"features": "block"}), "features"),
    (lambda: Reader(frozen(""), names={"half": lambda s: s["output"] / 2}), "half"),
]


@each(("student", "path"), PLACES)
def test_a_projector_learns_on_what_is_frozen(
    student: Callable[[], nn.Module | Reader], path: str
) -> None:
    distiller = make(student(), hint(path))
    optimizer = torch.optim.SGD([p for p in distiller.parameters() if p.requires_grad], 0.1)
    first = distiller(X).loss
    first.backward()
    assert set(gradients(distiller)) == {
        "objective.terms.0.projector.weight",
        "objective.terms.0.projector.bias",
    }
    optimizer.step()
    assert distiller(X).loss < first


def test_a_frozen_student_that_lacks_its_projector_says_so() -> None:
    distiller = Distiller(frozen(""), mlp(5, seed=1), 1.0 * hint("block"))
    with pytest.raises(
        LimbeckError, match=r"the projector has no size yet; call distiller.prepare"
    ):
        distiller(X)


def through(path: str, projector: nn.Module) -> Match:
    return Match(losses.hint, path, "body", project=projector)


@each(
    ("student", "objective"),
    [
        (lambda: frozen(""), lambda: Match(losses.kl)),
        (lambda: frozen(""), lambda: truth()),
        (lambda: frozen(""), lambda: through("block", nn.Linear(8, 5).requires_grad_(False))),
        (lambda: frozen("stem", "block"), lambda: Match(losses.attention, "block", "body")),
        (lambda: frozen("stem", "block"), lambda: through("block.1", nn.Linear(8, 5))),
        (lambda: frozen(checkpointed=True), lambda: through("block.0", nn.Linear(8, 5))),
    ],
)
def test_where_nothing_or_the_wrong_thing_would_learn(
    student: Callable[[], nn.Module], objective: Callable[[], Match]
) -> None:
    """A part without parameters of its own may as well lie in a reentrant checkpoint."""
    distiller = Distiller(student(), mlp(5, seed=1), 1.0 * objective())
    with pytest.raises(LimbeckError, match="no gradient reaches the student through"):
        distiller(X, target=Y)
