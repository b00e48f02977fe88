"""Parameter groups, optimizers by name, and the rate as a function of progress."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tests.train.jobs import distiller, images, job, loader, net, records, rich, weights
from torch import nn

from limbeck.train import Training, train
from limbeck.train.optim import groups, optimizer_for, rate, set_rate

each = pytest.mark.parametrize


class Mixed(nn.Module):
    """One of everything that decay may spare."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.batch = nn.BatchNorm2d(4)
        self.inner = nn.Sequential(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True))
        self.layer = nn.LayerNorm([4, 2])
        self.root = nn.RMSNorm(4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.position = nn.Parameter(torch.zeros(1, 4))
        self.frozen = nn.Linear(4, 4).requires_grad_(False)


def named(found: list[dict[str, Any]], *modules: nn.Module) -> list[set[str]]:
    names = {id(p): name for module in modules for name, p in module.named_parameters()}
    return [{names[id(p)] for p in group["params"]} for group in found]


def test_biases_and_norms_do_not_decay() -> None:
    model, settings = Mixed(), Training(lr=0.2, weight_decay=0.3)
    found = groups(model, nn.Module(), settings)
    weights = {"conv.weight", "position", "attention.in_proj_weight", "attention.out_proj.weight"}
    decayed, free = named(found, model)
    assert decayed == weights
    everything = {name for name, p in model.named_parameters() if p.requires_grad}
    assert free == everything - weights
    assert [(group["weight_decay"], group["lr"], group["peak"]) for group in found] == [
        (0.3, 0.2, 0.2),
        (0.0, 0.2, 0.2),
    ]


def test_everything_decays_on_request() -> None:
    model = Mixed()
    (found,) = groups(model, nn.Module(), Training(weight_decay=0.3, decay_all=True))
    assert found["weight_decay"] == 0.3
    assert len(found["params"]) == sum(p.requires_grad for p in model.parameters())


def test_projectors_have_a_rate_of_their_own() -> None:
    student, projector = nn.Linear(2, 2), nn.Conv2d(2, 3, 1)
    settings = Training(lr=0.2, projector_lr=0.05, weight_decay=0.3)
    found = groups(student, projector, settings)
    assert [(group["peak"], group["weight_decay"]) for group in found] == [
        (0.2, 0.3),
        (0.2, 0.0),
        (0.05, 0.3),
        (0.05, 0.0),
    ]
    same = groups(student, projector, Training(lr=0.2))
    assert {group["peak"] for group in same} == {0.2}


def test_an_undecayed_bias_stays_where_a_decayed_weight_shrinks(tmp_path: Path) -> None:
    """A student that no loss reaches moves by decay alone."""
    made = distiller(rich(), net())
    made.student.spare = nn.Linear(2, 2)
    before = weights(made.student)
    train(job(tmp_path, made, weight_decay=0.5, momentum=0.0, schedule="constant", max_steps=3))
    after = weights(made.student)
    assert torch.equal(after["spare.bias"], before["spare.bias"])
    assert torch.equal(after["spare.weight"], before["spare.weight"])
    shrunk = net(seed=9)
    optimizer = optimizer_for(shrunk, nn.Module(), Training(weight_decay=0.5, momentum=0.0, lr=0.1))
    expected = {k: v * (0.95 if k.endswith("weight") else 1) for k, v in weights(shrunk).items()}
    for parameter in shrunk.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert all(torch.allclose(shrunk.state_dict()[k], v) for k, v in expected.items())


@each(
    ("settings", "kind", "options"),
    [
        ({"momentum": 0.8, "nesterov": True}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
        ({"optimizer": "RMSprop", "momentum": 0.8}, torch.optim.RMSprop, {"momentum": 0.8}),
        ({"optimizer": "Adam", "betas": (0.8, 0.9)}, torch.optim.Adam, {"betas": (0.8, 0.9)}),
        ({"optimizer": "AdamW", "betas": (0.8, 0.9)}, torch.optim.AdamW, {"betas": (0.8, 0.9)}),
    ],
)
def test_optimizers_are_those_of_torch(
    settings: dict[str, Any], kind: type, options: dict[str, Any]
) -> None:
    made = optimizer_for(net(), nn.Module(), Training(**settings))
    assert type(made) is kind
    assert all(
        group[name] == value for group in made.param_groups for name, value in options.items()
    )


SHAPES: list[tuple[dict[str, Any], list[float]]] = [
    ({}, [1.0, 0.853553, 0.5, 0.146447, 0.0]),
    ({"schedule": "constant"}, [1.0] * 5),
    ({"schedule": "constant", "warmup": 0.5}, [0.0, 0.5, 1.0, 1.0, 1.0]),
    ({"warmup": 0.25}, [0.0, 1.0, 0.75, 0.25, 0.0]),
    ({"schedule": "step", "milestones": (0.5, 0.75)}, [1.0, 1.0, 0.1, 0.01, 0.01]),
    (
        {"schedule": "step", "milestones": (0.5,), "gamma": 0.5, "warmup": 0.5},
        [0.0, 0.5, 0.5, 0.5, 0.5],
    ),
    ({"warmup": 1.0}, [0.0, 0.25, 0.5, 0.75, 1.0]),
]


@each(("settings", "expected"), SHAPES)
def test_the_rate_against_hand_values(settings: dict[str, Any], expected: list[float]) -> None:
    found = [rate(progress, Training(**settings)) for progress in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_the_published_schedule_divides_by_ten_at_its_epochs() -> None:
    settings = Training(schedule="step", milestones=(0.3, 0.6, 0.9), epochs=100)
    per_epoch = [rate(epoch / 100, settings) for epoch in range(100)]
    changes = [e for e in range(1, 100) if per_epoch[e] != per_epoch[e - 1]]
    assert changes == [30, 60, 90]
    assert per_epoch[::30] == pytest.approx([1.0, 0.1, 0.01, 0.001])


def test_every_group_follows_its_own_peak() -> None:
    settings = Training(lr=0.2, projector_lr=0.05)
    optimizer = optimizer_for(nn.Linear(2, 2), nn.Linear(2, 2), settings)
    set_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.1, 0.025, 0.025]


def test_a_training_logs_the_rate_that_it_used(tmp_path: Path) -> None:
    train(job(tmp_path, schedule="step", milestones=[0.5], lr=0.4, epochs=2))
    found = [line["lr"] for line in records(tmp_path, "train")]
    assert found == pytest.approx([0.4] * 4 + [0.04] * 4)


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    """With plain SGD at a constant rate the weights move by lr * clip at most."""
    moved = []
    for name, clip in (("free", None), ("clipped", 1e-3)):
        made = distiller(rich(), net())
        settings = {"momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "max_steps": 1}
        batches = loader(images())
        before = weights(made.student)
        train(job(tmp_path / name, made, batches=batches, clip=clip, lr=1.0, **settings))
        after = weights(made.student)
        moved.append(sum(float((after[k] - before[k]).square().sum()) for k in before) ** 0.5)
    assert moved[0] > 1e-2
    assert 1e-4 < moved[1] <= 1e-3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"milestones": [0.5]}, "milestones and schedule: step go together"),
    ({"schedule": "step"}, "milestones and schedule: step go together"),
    ({"batch_size": 10, "accumulate": 4}, "batch_size 10 must divide by accumulate"),
    ({"device": "gpu"}, "string should match pattern"),
    ({"epochs": 0}, "greater than 0"),
    ({"ema": 1.0}, "less than 1"),
    ({"lr": 0}, "greater than 0"),
    ({"warmup": 1.5}, "less than or equal to 1"),
    ({"optimizer": "LBFGS"}, "'SGD', 'Adam', 'AdamW' or 'RMSprop'"),
]


@each(("settings", "says"), BAD)
def test_settings_that_make_no_training(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=f"(?i){says}"):
        Training(**settings)


@each("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices_have_names(device: str) -> None:
    assert Training(device=device).device == device
