"""What networks cost, the sizes of the zoo, and weights that cannot be real."""

from collections.abc import Callable

import pytest
import torch
from tests.networks import Noisy
from torch import nn
from torchvision import models as tv

from limbeck import zoo
from limbeck.models import cost, suspicious_weights

each = pytest.mark.parametrize


def test_resnet18_costs_what_its_paper_says() -> None:
    found = cost(tv.resnet18(), torch.zeros(1, 3, 224, 224))
    assert found["parameters"] == 11_689_512
    assert found["flops"] == pytest.approx(2 * 1.814e9, rel=1e-3)
    assert found["bytes"] == 4 * (11_689_512 + 9_600) + 8 * 20


def test_cost_is_for_one_example() -> None:
    model = zoo.small_cnn(10)
    one, many = (cost(model, torch.zeros(n, 1, 28, 28)) for n in (1, 6))
    assert one == many
    assert one["flops"] == 2 * (9 * 16 * 784 + 9 * 16 * 32 * 196 + 9 * 32 * 32 * 49 + 32 * 10)


@each("training", [True, False])
def test_counting_leaves_no_trace(training: bool) -> None:
    model = Noisy().train(training)
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes, random = [part.training for part in model.modules()], torch.get_rng_state()
    cost(model, torch.full((5, 4), 3.0))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in model.parameters())


def test_attention_counts_in_eval_mode_too() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    length = 5
    projections = 4 * 16 * 16 + 2 * 16 * 32
    attention = 2 * length * 16
    expected = 2 * length * (projections + attention)
    assert cost(layer.eval(), torch.zeros(3, length, 16))["flops"] == expected
    assert torch.backends.mha.get_fastpath_enabled()


def test_flops_that_read_zero_are_said(caplog: pytest.LogCaptureFixture) -> None:
    assert cost(nn.ReLU(), torch.zeros(1, 4)) == {"parameters": 0, "flops": 0, "bytes": 0}
    assert "ReLU has no operation that is counted" in caplog.text


def test_tied_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert cost(model, torch.zeros(1, 4))["parameters"] == 16 + 4 + 4


ZOO = [
    (lambda: zoo.mlp(10), (1, 28), 784 * 64 + 64 + 64 * 10 + 10),
    (lambda: zoo.mlp(3, hidden=5, channels=3, size=8), (3, 8), 192 * 5 + 5 + 5 * 3 + 3),
    (lambda: zoo.small_cnn(10), (1, 28), 9 * (16 + 512 + 1024) + 2 * 80 + 330),
    (lambda: zoo.small_cnn(10, width=4, channels=3), (3, 32), 9 * (12 + 32 + 64) + 2 * 20 + 90),
    (lambda: zoo.resnet20(100), (3, 32), 278_324),
    (lambda: zoo.resnet8x4(100), (3, 32), 1_233_540),
    (lambda: zoo.resnet32x4(100), (3, 32), 7_433_860),
]


@each(("make", "image", "parameters"), ZOO)
def test_the_zoo_has_the_published_sizes(
    make: Callable[[], nn.Module], image: tuple[int, int], parameters: int
) -> None:
    model, (channels, size) = make(), image
    assert sum(p.numel() for p in model.parameters()) == parameters
    classes = list(model.parameters())[-1].numel()
    assert model(torch.zeros(2, channels, size, size)).shape == (2, classes)


def zeros(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.zeros_(parameter)


def weights_only(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.0 if parameter.ndim >= 2 else 1.0)


def one_nan(model: nn.Module) -> None:
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = torch.nan


def all_infinite(model: nn.Module) -> None:
    for parameter in model.parameters():
        nn.init.constant_(parameter, torch.inf)


LOST = [
    (zeros, "all 4 weight tensors are zero"),
    (weights_only, "all 4 weight tensors are zero"),
    (one_nan, "0.0.weight is not finite"),
    (all_infinite, "0.0.weight is not finite"),
]


@each(("lose", "says"), LOST)
def test_b098_weights_that_were_never_loaded_are_found(
    lose: Callable[[nn.Module], None], says: str
) -> None:
    model = zoo.small_cnn(10)
    assert suspicious_weights(model) is None
    lose(model)
    assert suspicious_weights(model) == says


def test_b098_a_zero_layer_alone_is_no_sign() -> None:
    model = zoo.small_cnn(10)
    nn.init.zeros_(model[-1].weight)
    assert suspicious_weights(model) is None
    assert suspicious_weights(nn.BatchNorm1d(4)) is None
