"""Networks that are cut at a module, and grow branches there."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.networks import batch, gradients, hooks, mlp
from torch import Tensor, nn

from limbeck import Distiller, Match, Reader, losses, truth, zoo
from limbeck.errors import LimbeckError
from limbeck.exits import Branched, without
from limbeck.exits.split import split
from limbeck.models import build
from limbeck.schemes import one

each = pytest.mark.parametrize
X, Y = batch()
Make = Callable[[], nn.Module]


def nets(make: Make, count: int = 3) -> list[nn.Module]:
    torch.manual_seed(0)
    return [make() for _ in range(count)]


def branched(count: int = 3, at: str = "body") -> Branched:
    torch.manual_seed(0)
    models = [mlp(8, seed=k) for k in range(count)]
    return Branched(models, X, at, nn.Linear(8, count))


NETWORKS: dict[str, tuple[Make, str, int]] = {
    "resnet20": (zoo.resnet20, "layer3", 32),
    "inside a stage": (zoo.resnet20, "layer3.1", 32),
    "sequential": (lambda: zoo.small_cnn(10, 4, 3), "6", 28),
    "mlp": (lambda: zoo.mlp(10, 4, 3, 28), "3", 28),
    "torchvision resnet": (lambda: build("torchvision:resnet18", classes=5), "layer4", 64),
    "mobilenet": (lambda: build("torchvision:mobilenet_v3_small", classes=5), "features.9", 64),
    "densenet": (lambda: build("torchvision:densenet121", classes=5), "features.denseblock4", 64),
    "timm resnet": (lambda: build("timm:resnet18", classes=5), "layer4", 64),
    "tokens": (
        lambda: build("torchvision:vit_b_32", classes=5, options={"image_size": 64}),
        "encoder.layers.encoder_layer_11",
        64,
    ),
}


@each("name", NETWORKS)
def test_each_branch_with_the_trunk_is_a_plain_network(name: str) -> None:
    make, at, size = NETWORKS[name]
    made = Branched(nets(make, 2), torch.rand(2, 3, size, size), at).eval()
    x = torch.rand(3, 3, size, size)
    with torch.no_grad():
        answer = made(x)
        for k, z in enumerate(answer["branches"]):
            plain = make().eval()
            plain.load_state_dict(made.single(k).state_dict(), strict=True)
            torch.testing.assert_close(plain(x), z, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(without(made)(x), answer["branches"][0], rtol=1e-5, atol=1e-6)
    shapes = {key: value.shape for key, value in make().state_dict().items()}
    assert {key: value.shape for key, value in made.model.state_dict().items()} == shapes
    first, second = (made.single(k).state_dict() for k in (0, 1))
    assert any(not torch.equal(first[key], second[key]) for key in first)


@each("count", [2, 3])
def test_the_ensemble_is_weighed_by_the_gate(count: int) -> None:
    made = branched(count)
    answer = made(X)
    features = made.model.stem(X).relu()
    z = [made.model.head(made.model.body(features).relu())]
    z += [other.head(other.body(features).relu()) for other in made.others]
    shares = made.gate(features).softmax(1)
    expected = torch.stack([shares[:, k : k + 1] * z[k] for k in range(count)]).sum(0)
    torch.testing.assert_close(answer["logits"], expected)
    assert all(torch.equal(a, b) for a, b in zip(answer["branches"], z, strict=True))


def test_the_trunk_is_there_once() -> None:
    made = branched()
    assert [sorted(other._modules) for other in made.others] == [["body", "head"]] * 2
    names = [name for name, _ in made.named_parameters()]
    assert len([name for name in names if "stem" in name]) == 2
    assert len(made.state_dict()) == len(names)


def test_every_part_learns_of_the_papers_objective() -> None:
    made = branched()
    names = {"output": "output.logits"}
    Distiller(Reader(made, names=names), {}, one(3))(X, target=Y).loss.backward()
    assert all(bool(g.any()) for g in gradients(made).values())
    assert hooks(made) == 0


def test_no_branch_moves_by_the_loss_of_another() -> None:
    made = branched()
    F.cross_entropy(made(X)["branches"][1], Y).backward()
    assert all(p.grad is None for p in made.model.head.parameters())
    assert all(p.grad is not None for p in made.others[0].parameters())
    assert all(p.grad is not None for p in made.model.stem.parameters())


def test_a_layer_of_the_trunk_can_be_matched() -> None:
    made = branched()
    objective = truth("output.logits") + Match(losses.hint, "model.stem", source="data", theirs="h")
    step = Distiller(made, {}, objective)(X, target=Y, h=torch.zeros(6, 8))
    expected = made.model.stem(X).square().mean().detach()
    torch.testing.assert_close(step.parts["hint[model.stem]:data"], expected)


@each("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_is_whole_and_apart(copied: Callable[[Branched], Branched]) -> None:
    made = branched()
    other = copied(made)
    assert torch.equal(other(X)["logits"], made(X)["logits"])
    with torch.no_grad():
        other.model.stem.weight.zero_()
    assert not torch.equal(other(X)["branches"][1], made(X)["branches"][1])
    assert made.double()(X.double())["logits"].dtype == torch.float64


def test_it_is_made_without_a_trace() -> None:
    make = NETWORKS["resnet20"][0]
    models = nets(make, 2)
    before = copy.deepcopy(models[0].state_dict())
    modes = [m.training for m in models[0].modules()]
    made = Branched(models, torch.rand(2, 3, 32, 32), "layer3")
    assert all(torch.equal(before[key], value) for key, value in made.model.state_dict().items())
    assert [m.training for m in made.model.modules()] == modes


# ---- what cannot be cut


class Small(nn.Module):
    """Three linear layers and a ReLU in place, in any order."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function, self.relu = function, nn.ReLU(inplace=True)
        self.a, self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def modal(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x)) if m.training else m.b(m.a(x).relu()))


def looking(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x))) if x.sum() > 0 else m.c(m.a(x))


@each(
    ("forward", "at", "message"),
    [
        (lambda m, x: m.c(m.b(m.a(x))), "d", "no module 'd'"),
        (
            lambda m, x: m.c(m.b(m.a(x)) + x),
            "b",
            "its forward goes past 'b': x is read behind",
        ),
        (lambda m, x: m.c(m.a(x)) + m.c(m.b(m.a(x))), "b", "its forward goes past 'b'"),
        (lambda m, x: m.c(m.a(x)), "b", "'b' must run once in a forward, on one tensor"),
        (lambda m, x: m.c(m.b(m.b(m.a(x)))), "b", "'b' must run once in a forward"),
        (modal, "b", "its forward outside of 'b' is another in training"),
        (looking, "b", "its forward cannot be read: "),
        (lambda m, x: m.c(m.a(m.b(m.a(x)))), "b", "'a.bias' is used before and behind the cut"),
        (lambda m, x: m.c(m.a(x)), "c", "'b.bias' is used in no forward"),
        (lambda m, x: m.c(m.relu(m.b(m.a(x)))), "relu", "'relu' changes its input, which the oth"),
        (lambda m, x: m.c(m.b(m.a(x)))[:, None], "b", "the model must return logits (B, classes)"),
    ],
)
def test_a_forward_that_cannot_be_cut_is_refused_in_one_line(
    forward: Any, at: str, message: str
) -> None:
    with pytest.raises(LimbeckError) as caught:
        Branched(nets(lambda: Small(forward), 2), X, at)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_pieces_that_answer_otherwise_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    trunk, branch = split(mlp(8), "body")
    monkeypatch.setattr("limbeck.exits.branched.split", lambda *_: (trunk, wrong(branch)))
    with pytest.raises(LimbeckError, match="cut at 'body' it answers otherwise, by up to 1"):
        Branched([mlp(8), mlp(8, seed=1)], X, "body")


def wrong(piece: Any) -> Any:
    made = copy.copy(piece)
    made.__dict__["function"] = lambda network, x: piece(network, x) + 1
    return made


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(LimbeckError, match="at least two branches, got 1"):
        Branched([mlp()], X, "body")
    with pytest.raises(LimbeckError, match="gate must score 2 branches"):
        Branched([mlp(8), mlp(8, seed=1)], X, "body", nn.Linear(8, 3))(X)
