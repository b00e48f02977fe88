"""Exits: where they stand, what they learn, who leaves early, and what ships."""

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tests.networks import Custom, hooks
from torch import Tensor, nn
from torchvision import models

from limbeck import Distiller, Match, losses, methods, truth
from limbeck.checkpoint import save_weights
from limbeck.errors import LimbeckError
from limbeck.exits import Exits, find
from limbeck.export import export
from limbeck.inputs import Preprocess
from limbeck.schedules import Linear
from limbeck.zoo import resnet20, small_cnn

each = pytest.mark.parametrize
CLASSES = 5
ENCODER = "encoder.layers.encoder_layer_{}"


def vit(layers: int = 6) -> nn.Module:
    return models.VisionTransformer(32, 8, layers, 2, 16, 32, num_classes=CLASSES)


MODELS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "resnet18": (lambda: models.resnet18(num_classes=5), ["layer1", "layer2", "layer3", "layer4"]),
    "mobilenet": (
        lambda: models.mobilenet_v3_small(num_classes=5),
        ["features.1", "features.3", "features.8", "features.11"],
    ),
    "vit": (vit, [ENCODER.format(k) for k in (0, 2, 3, 5)]),
    "resnet20": (lambda: resnet20(CLASSES), ["layer1", "layer2", "layer3"]),
}


def images(count: int = 3, size: int = 32) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def made(name: str, seed: int = 0) -> Exits:
    torch.manual_seed(seed)
    return Exits(MODELS[name][0](), images())


X, Y = images(), torch.tensor([0, 3, 1])


@pytest.fixture(scope="module", params=MODELS)
def exits(request: pytest.FixtureRequest) -> Exits:
    return made(request.param)


@pytest.fixture
def small() -> Exits:
    return made("resnet20")


# ---- places


def test_places_are_stages_or_evenly_spaced_blocks(exits: Exits) -> None:
    assert exits.at in [places for _, places in MODELS.values()]


@each("count", [1, 2, 3, 9])
def test_as_many_places_as_are_asked_for(count: int) -> None:
    assert find(vit(6), X, exits=count)[-1] == ENCODER.format(5)
    assert len(find(vit(6), X, exits=count)) == min(count + 1, 6)
    assert find(resnet20(), X, exits=count) == ["layer1", "layer2", "layer3"][-count - 1 :]


def test_two_blocks_are_enough() -> None:
    assert find(vit(2), X) == [ENCODER.format(k) for k in (0, 1)]


def test_no_places_ask_for_names() -> None:
    with pytest.raises(LimbeckError, match=r"no places for exits were found in VGG; name modules"):
        find(models.vgg11(num_classes=5), X)


def test_maps_with_channels_last_are_no_places() -> None:
    swin = models.SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=5)
    with pytest.raises(LimbeckError, match="no places for exits"):
        find(swin, X)
    with pytest.raises(LimbeckError, match=r"'features.1' must be a module that gives a map"):
        Exits(swin, X, ["features.1", "features.3"])


def test_blocks_that_never_run_themselves_are_no_places() -> None:
    dense = models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=5)
    assert find(dense, X) == [f"features.transition{k}" for k in (1, 2, 3)]


@each(
    ("at", "says"),
    [
        (["layer3"], r"at least two places, from shallow to deep, got \['layer3'\]"),
        (["layer1", "layr3"], "got 'layr3'; did you mean 'layer"),
        (["layer1", "fc"], r"'fc' must be a module that gives a map .* got a tensor \(3, 5\)"),
    ],
)
def test_places_that_cannot_be(at: list[str], says: str) -> None:
    with pytest.raises(LimbeckError, match=says):
        Exits(resnet20(CLASSES), X, at)


def test_maps_and_tokens_do_not_mix() -> None:
    with pytest.raises(LimbeckError, match=r"all places must give maps, or as many tokens, got"):
        Exits(Custom(mixed, a=nn.Conv2d(3, 4, 1), b=nn.Linear(4, 4)), X, ["a", "b"])


def mixed(module: nn.Module, x: Tensor) -> Tensor:
    return module.b(module.a(x).flatten(2).mT).mean(1)


def test_a_model_returns_logits() -> None:
    with pytest.raises(LimbeckError, match=r"must return logits \(B, classes\), got a mapping"):
        Exits(Custom(lambda m, x: {"out": m.net(x)}, net=resnet20()), X, ["net.layer1", "net.fc"])


# ---- what it returns


def test_the_outputs_and_their_shapes(exits: Exits) -> None:
    out = exits.eval()(X)
    assert len(out["exits"]) == len(exits.exits) == len(exits.at) - 1
    assert {tuple(z.shape) for z in out["exits"]} == {(3, CLASSES)}
    assert len({f.shape for f in out["features"]}) == 1
    assert len(out["features"]) == len(exits.at)
    assert torch.equal(out["logits"], exits.model(X))


def test_the_deepest_features_are_the_models_own(small: Exits) -> None:
    seen = []
    small.model.layer3.register_forward_hook(lambda m, a, out: seen.append(out))
    assert torch.equal(small(X)["features"][-1], seen[0])


def test_channels_of_tokens_come_second() -> None:
    assert made("vit")(X)["features"][0].shape == (3, 16, 17)


def test_sizes_may_differ_from_those_of_the_first_images(small: Exits) -> None:
    out = small(images(2, 41))
    assert {f.shape for f in out["features"]} == {(2, 64, 11, 11)}


def test_making_exits_leaves_no_trace_in_the_model() -> None:
    net = resnet20().train()
    before = copy.deepcopy(net.state_dict())
    exits = Exits(net, X)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert net.training
    assert exits.exits.training
    exits(X)
    assert hooks(net) == 0
    assert not Exits(net.eval(), X).exits.training


@each("dtype", [torch.float64, torch.bfloat16])
def test_exits_have_the_precision_of_the_model(dtype: torch.dtype) -> None:
    exits = Exits(resnet20().to(dtype), X.to(dtype))
    assert {p.dtype for p in exits.parameters()} == {dtype}
    assert exits(X.to(dtype))["exits"][0].dtype == dtype


def test_copies_and_files_are_whole(small: Exits) -> None:
    small.eval()
    right = small(X)["exits"][0]
    for other in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        assert torch.equal(other(X)["exits"][0], right)
        with torch.no_grad():
            other.model.layer1[0].first[0].weight.zero_()
        assert not torch.equal(other(X)["exits"][0], right)
    assert torch.equal(small(X)["exits"][0], right)


# ---- early exits


def test_nobody_leaves_where_nobody_is_sure(exits: Exits) -> None:
    early = exits.early(X, 1.0)
    assert early.exits.tolist() == [len(exits.exits)] * 3
    assert torch.equal(early.logits, exits.eval()(X)["logits"])


def test_everybody_leaves_at_once_and_the_rest_never_runs(exits: Exits) -> None:
    deepest = exits.model.get_submodule(exits.at[-1])
    seen = deepest.register_forward_hook(lambda *_: pytest.fail("the deepest place ran"))
    try:
        early = exits.early(X, 0.0)
    finally:
        seen.remove()
    assert early.exits.tolist() == [0, 0, 0]
    torch.testing.assert_close(early.logits, exits.eval()(X)["exits"][0])


def test_each_image_leaves_at_the_first_exit_that_is_sure(exits: Exits) -> None:
    """By the rule applied to all logits; a threshold at which some go and some stay."""
    x = images(8)
    exits = copy.deepcopy(exits).eval()
    with torch.no_grad():
        for own in exits.exits:
            own.head.weight.mul_(100)
        out = exits(x)
    answers = torch.stack([*out["exits"], out["logits"]])
    sure = answers.softmax(-1).amax(-1)
    threshold = sure[:-1].amax(0).sort().values[3:5].mean().item()
    right = [
        next((k for k, p in enumerate(sure[:-1, i]) if p >= threshold), len(sure) - 1)
        for i in range(8)
    ]
    early = exits.early(x, threshold)
    assert len({*right}) > 1
    assert early.exits.tolist() == right
    torch.testing.assert_close(early.logits, answers[early.exits, torch.arange(8)])


def test_leaving_early_leaves_no_trace(small: Exits) -> None:
    small.train()
    before = copy.deepcopy(small.state_dict())
    early = small.early(X, 0.5)
    assert small.training
    assert hooks(small) == 0
    assert not early.logits.requires_grad
    assert all(torch.equal(value, before[key]) for key, value in small.state_dict().items())


@each("threshold", [-0.1, 1.5])
def test_a_threshold_is_a_probability(small: Exits, threshold: float) -> None:
    with pytest.raises(LimbeckError, match=r"threshold must be in \[0, 1\]"):
        small.early(X, threshold)


# ---- be your own teacher


def distiller(exits: Exits, **keys: float) -> Distiller:
    return Distiller(exits, {}, methods.byot(len(exits.exits), **keys))


def test_the_value_of_be_your_own_teacher(exits: Exits) -> None:
    """By the formula, on the outputs."""
    exits.eval()
    made = distiller(exits, weight=0.2, hint_weight=0.03, truth_weight=0.7)
    out = exits(X)
    total = 0.7 * F.cross_entropy(out["logits"], Y)
    p = (out["logits"] / 3).softmax(-1)
    *shallow, deepest = out["features"]
    for z, f in zip(out["exits"], shallow, strict=True):
        total += 0.7 * F.cross_entropy(z, Y)
        log_q = (z / 3).log_softmax(-1)
        total += 0.2 * 9 * (p * (p.log() - log_q)).sum(-1).mean()
        active = (f > 0) | (deepest > 0)
        total += 0.03 * ((f - deepest) ** 2 * active).sum(1).mean()
    step = made(X, target=Y)
    assert step.loss.item() == pytest.approx(total.item(), rel=1e-5)
    assert list(step.parts) == made.objective.parts()
    assert sum(x.item() for x in step.parts.values()) == pytest.approx(step.loss.item(), rel=1e-5)


def test_the_parts_are_named_after_the_exits() -> None:
    assert methods.byot(2).parts() == [
        "truth",
        *(f"{part}[exits.{k}]" for k in (0, 1) for part in ("truth", "kl", "byot_hint")),
    ]
    with pytest.raises(LimbeckError, match="at least one exit beside the model's own, got 0"):
        methods.byot(0)


@each("zero", ["weight", "hint_weight", "truth_weight"])
def test_a_weight_of_0_leaves_its_terms_out(zero: str) -> None:
    part = {"weight": "kl", "hint_weight": "byot_hint", "truth_weight": "truth"}[zero]
    assert not [name for name in methods.byot(2, **{zero: 0}).parts() if name.startswith(part)]


def test_weights_and_temperature_may_follow_schedules(small: Exits) -> None:
    made = distiller(small, weight=Linear(0.0, 0.2), temperature=Linear(4.0, 2.0))
    made.advance(0.0)
    assert made(X, target=Y).parts["kl[exits.0]"] == 0
    made.advance(1.0)
    assert made(X, target=Y).parts["kl[exits.0]"] > 0


def test_deep_supervision_is_be_your_own_teacher_without_soft_terms() -> None:
    """The same weights after a step, to the bit, as labels at every exit."""
    states = []
    for plain in (False, True):
        exits = made("resnet20").train()
        own = [truth(f"output.exits.{k}", name=f"{k}") for k in range(2)]
        supervised = truth("output.logits") + own[0] + own[1]
        byot = methods.byot(2, weight=0, hint_weight=0, truth_weight=1.0)
        trained = Distiller(exits, {}, supervised if plain else byot)
        optimizer = torch.optim.SGD(exits.parameters(), 0.1)
        for _ in range(2):
            optimizer.zero_grad()
            trained(X, target=Y).loss.backward()
            optimizer.step()
        states.append(exits.state_dict())
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_every_exit_and_the_model_learn(exits: Exits) -> None:
    made = distiller(exits.train())
    made.prepare(X, target=Y)
    made(X, target=Y).loss.backward()
    for name, parameter in exits.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        parameter.grad = None


def test_the_deepest_teaches_and_is_not_taught_by_the_others(small: Exits) -> None:
    made = distiller(small, truth_weight=0)
    made(X).loss.backward()
    assert small.model.fc.weight.grad is None
    assert small.model.layer3[0].first[0].weight.grad is None
    assert small.exits[1].head.weight.grad.count_nonzero() > 0
    assert small.model.layer2[0].first[0].weight.grad.count_nonzero() > 0


def test_unlabelled_images_are_taught_by_the_deepest_alone(small: Exits) -> None:
    small.eval()
    step = distiller(small)(X, target=torch.full((3,), -100))
    assert all(float(v) == 0 for name, v in step.parts.items() if name.startswith("truth"))
    assert step.parts["kl[exits.0]"] > 0


def test_a_teacher_may_teach_beside(small: Exits) -> None:
    objective = methods.byot(2) + Match(losses.kl, "output.logits", "output", temperature=4)
    step = Distiller(small, resnet20(CLASSES), objective)(X, target=Y)
    assert step.parts["kl"] > 0


def test_exits_learn_to_leave(small: Exits) -> None:
    """Two colours: after some steps all leave at the first exit, and rightly."""
    x = torch.zeros(8, 3, 32, 32)
    y = torch.arange(8) % 2
    x[y == 1] = 1.0
    x += 0.1 * images(8)
    trained = distiller(small.train())
    optimizer = torch.optim.SGD(small.parameters(), 0.05, momentum=0.9)
    for _ in range(12):
        optimizer.zero_grad()
        trained(x, target=y).loss.backward()
        optimizer.step()
    for part in small.modules():  # statistics of these images
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None
            part.reset_running_stats()
    with torch.no_grad():
        small(x)
    early = small.early(x, 0.5)
    assert early.exits.tolist() == [0] * 8
    assert early.logits.argmax(-1).tolist() == y.tolist()


@each("names", [("layer2", "layer3"), ("model.layer2", "model.layer3")])
def test_a_layer_looks_where_the_next_one_does(small: Exits, names: tuple[str, str]) -> None:
    """Attention from deep to shallow, by the student's own taps, with exits and without."""
    student = small if names[0].startswith("model") else small.model
    term = methods.sad(*names, weight=1e6, truth_weight=0)
    step = Distiller(student, {}, term)(X)
    step.loss.backward()
    assert step.loss > 0
    assert small.model.layer2[0].first[0].weight.grad.count_nonzero() > 0
    assert small.model.layer3[0].first[0].weight.grad is None


def test_attention_of_an_exit_follows_the_deepest(small: Exits) -> None:
    term = methods.sad("output.features.0", "output.features.2", weight=1e6, truth_weight=0)
    Distiller(small, {}, term)(X).loss.backward()
    assert small.exits[0].bottleneck[0].weight.grad.count_nonzero() > 0


# ---- what ships


def test_the_saved_student_is_the_plain_model(small: Exits, tmp_path: Path) -> None:
    trained = distiller(small)
    trained(X, target=Y).loss.backward()
    save_weights(small.model, tmp_path / "student.safetensors")
    fresh = resnet20(CLASSES)
    fresh.load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)
    assert torch.equal(fresh.eval()(X), small.eval()(X)["logits"])


def test_the_exported_student_has_no_exits(small: Exits, tmp_path: Path) -> None:
    view = Preprocess()
    names = [str(k) for k in range(CLASSES)]
    model = "limbeck.zoo:resnet20"
    told = export(small.model, view, names, (3, 32, 32), tmp_path / "out", model=model, onnx=False)
    assert told["parameters"] == sum(p.numel() for p in small.model.parameters())
    state = load_file(tmp_path / "out" / "student.safetensors")
    assert state.keys() == resnet20(CLASSES).state_dict().keys()


def test_a_small_network_of_your_own() -> None:
    net = small_cnn(CLASSES, width=2, channels=3)
    exits = Exits(net, X)
    assert exits.at == ["0", "3", "6"]
    distiller(exits)(X, target=Y).loss.backward()


@pytest.mark.slow
@each(
    ("name", "size", "at"),
    [
        ("resnet18", 64, ["layer1", "layer2", "layer3", "layer4"]),
        ("mobilenetv3_small_050", 64, ["blocks.0", "blocks.1", "blocks.3", "blocks.5"]),
        ("vit_tiny_patch16_224", 224, ["blocks.2", "blocks.5", "blocks.8", "blocks.11"]),
    ],
)
def test_models_of_timm(name: str, size: int, at: list[str]) -> None:
    timm = pytest.importorskip("timm")
    x = images(2, size)
    exits = Exits(timm.create_model(name, num_classes=CLASSES), x)
    assert exits.at == at
    made = distiller(exits)
    made.prepare(x, target=Y[:2])
    assert made(x, target=Y[:2]).loss.isfinite()
    assert exits.early(x, 0.0).exits.tolist() == [0, 0]
