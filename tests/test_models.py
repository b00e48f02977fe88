"""Networks by name: built, fitted, mapped, counted, and never fetched unasked."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision import models as tv

from limbeck import zoo
from limbeck.errors import LimbeckError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD
from limbeck.models import (
    as_module,
    build,
    check_spec,
    fresh_head,
    preprocess_of,
)

each = pytest.mark.parametrize
HERE = "tests.test_models"
SMALL = "torchvision:mobilenet_v3_small"


def counted(num_classes: int, width: int = 4) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, num_classes))


def anything(classes: int = 2, **options: int) -> nn.Module:
    return nn.Linear(sum(options.values()), classes)


def uncounted(width: int) -> nn.Module:
    return nn.Linear(2, width)


def no_network() -> str:
    return "not a module"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No socket opens, and the caches of the libraries are empty."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("the network was touched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def info(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="limbeck")
    return caplog


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(LimbeckError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def publish(tmp_path: Path, weights: Any, model: nn.Module) -> None:
    """Puts a state dict where torchvision looks before it downloads."""
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(model.state_dict(), folder / weights.url.rpartition("/")[2])


def equal(left: nn.Module, right: nn.Module) -> bool:
    mine, theirs = left.state_dict(), right.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


@each("spec", [SMALL, "timm:resnet10t", "limbeck.zoo:small_cnn", f"{HERE}:counted"])
def test_a_fresh_model_has_as_many_outputs_as_classes(spec: str) -> None:
    model = build(spec, classes=7)
    last = [part for part in model.modules() if isinstance(part, nn.Linear)][-1]
    assert last.out_features == 7


@each("spec", [SMALL, "timm:resnet10t"])
def test_without_classes_a_library_chooses(spec: str) -> None:
    last = [part for part in build(spec).modules() if isinstance(part, nn.Linear)][-1]
    assert last.out_features == 1000


def test_options_reach_the_model() -> None:
    assert build("timm:resnet10t", classes=3, options={"in_chans": 1}).conv1[0].in_channels == 1
    assert build("torchvision:alexnet", options={"dropout": 0.1}).classifier[0].p == 0.1
    assert build(f"{HERE}:counted", classes=3, options={"width": 9})[0].out_features == 9
    assert build(f"{HERE}:anything", classes=3, options={"a": 2, "b": 3}).in_features == 5


def test_a_factory_without_a_class_keyword_gets_none() -> None:
    assert build(f"{HERE}:uncounted", classes=3, options={"width": 9}).out_features == 9


BAD_SPECS = [
    ("resnet50", "must be torchvision:NAME, timm:NAME or package.module:factory"),
    ("torchvision:", "must be torchvision:NAME"),
    ("torchvision:resnet5O", "torchvision has no model 'resnet5O'; did you mean 'resnet50'?"),
    ("timm:resnet10", "timm has no model 'resnet10'; did you mean 'resnet10t'?"),
    ("torchvison:resnet50", "did you mean 'torchvision'?"),
    ("limbeck.zo:mlp", "did you mean 'limbeck.zoo'?"),
    ("nowhere.at.all:mlp", "No module named 'nowhere'"),
    (".zoo:mlp", "must be torchvision:NAME"),
    ("limbeck.zoo:resnet2", "has no callable 'resnet2'; did you mean 'resnet20'?"),
    (f"{HERE}:HERE", "has no callable 'HERE'"),
]


@each(("spec", "says"), BAD_SPECS)
def test_a_name_that_does_not_exist_is_one_line_with_a_close_match(spec: str, says: str) -> None:
    assert says in refused(check_spec, spec)
    assert says in refused(build, spec, classes=2)


BAD_OPTIONS = [
    (f"{HERE}:counted", {"widht": 3}, "got 'widht'; did you mean 'width'?"),
    (f"{HERE}:counted", {"num_classes": 3}, "must leave num_classes to the number of classes"),
    (f"{HERE}:uncounted", {}, "missing a required argument: 'width'"),
    (f"{HERE}:no_network", {}, "must return an nn.Module, got str"),
    (SMALL, {"droput": 0.1}, "got 'droput'; did you mean 'dropout'?"),
    ("torchvision:resnet18", {"block": nn.Identity}, "multiple values for argument 'block'"),
    ("timm:resnet10t", {"widht": 3}, "unexpected keyword argument 'widht'"),
    (SMALL, {"weights": "DEFAULT"}, "must leave weights to classes and pretrained"),
    ("timm:resnet10t", {"num_classes": 3}, "must leave num_classes to classes and pretrained"),
    ("timm:resnet10t", {"pretrained": True}, "must leave pretrained to classes and pretrained"),
]


@each(("spec", "options", "says"), BAD_OPTIONS)
def test_options_that_do_not_fit_are_one_line(
    spec: str, options: dict[str, Any], says: str
) -> None:
    assert says in refused(build, spec, classes=2, options=options)


@each("classes", [0, -1])
def test_a_model_has_at_least_one_class(classes: int) -> None:
    assert "at least 1" in refused(build, "timm:resnet10t", classes=classes)


@each("pretrained", [True, "DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_come_through_torchvision_with_their_head(
    pretrained: bool | str, tmp_path: Path, info: pytest.LogCaptureFixture
) -> None:
    source = tv.mobilenet_v3_small()
    publish(tmp_path, tv.MobileNet_V3_Small_Weights.IMAGENET1K_V1, source)
    assert equal(build(SMALL, classes=10, pretrained=pretrained), source)
    assert "published" in info.text
    assert "replaced" not in info.text


def test_a_head_is_fitted_on_request_and_said(
    tmp_path: Path, info: pytest.LogCaptureFixture
) -> None:
    source = tv.mobilenet_v3_small()
    publish(tmp_path, tv.MobileNet_V3_Small_Weights.IMAGENET1K_V1, source)
    model = build(SMALL, classes=10, pretrained=True, fit_head=True)
    assert model.classifier[-1].out_features == 10
    assert equal(model.features, source.features)
    assert torch.equal(model.classifier[0].weight, source.classifier[0].weight)
    assert "replaced classifier.3 (1000 outputs) by a fresh layer of 10" in info.text


def test_published_weights_come_through_timm(
    tmp_path: Path, info: pytest.LogCaptureFixture
) -> None:
    source = timm.create_model("resnet10t")
    torch.save(source.state_dict(), tmp_path / "weights.pt")
    options = {"pretrained_cfg_overlay": {"file": str(tmp_path / "weights.pt")}}
    assert equal(build("timm:resnet10t", classes=10, pretrained=True, options=options), source)
    tagged = build(
        "timm:resnet10t", classes=10, pretrained="c3_in1k", fit_head=True, options=options
    )
    assert tagged.fc.out_features == tagged.num_classes == 10
    assert torch.equal(tagged.conv1[0].weight, source.conv1[0].weight)
    assert "replaced fc (1000 outputs) by a fresh layer of 10" in info.text


BAD_WEIGHTS = [
    (SMALL, "IMAGENET1K_V2", "['IMAGENET1K_V1'] for torchvision:mobilenet_v3_small, got "),
    (SMALL, "IMAGENET1K_V2", "did you mean 'IMAGENET1K_V1'?"),
    ("timm:resnet10t", "c3_in21k", "did you mean 'c3_in1k'?"),
    ("timm:resnet10t.c3_in2k", True, "did you mean 'c3_in1k'?"),
    ("limbeck.zoo:mlp", True, "has no published weights; give it a checkpoint"),
    (SMALL, True, "could not be built: <urlopen error the network was touched>"),
]


@each(("spec", "pretrained", "says"), BAD_WEIGHTS)
def test_weights_that_are_not_there_are_one_line(
    spec: str, pretrained: bool | str, says: str
) -> None:
    assert says in refused(build, spec, classes=2, pretrained=pretrained)


def small_vit() -> nn.Module:
    return tv.VisionTransformer(
        image_size=16, patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8
    )


def small_swin() -> nn.Module:
    return tv.SwinTransformer([4, 4], embed_dim=8, depths=[2], num_heads=[2], window_size=[2, 2])


HEADS: list[tuple[Callable[[], nn.Module], str]] = [
    (tv.resnet18, "fc"),
    (tv.mobilenet_v3_small, "classifier.3"),
    (tv.squeezenet1_1, "classifier.1"),
    (small_vit, "heads.head"),
    (small_swin, "head"),
    (lambda: tv.DenseNet(4, (1, 1), 4), "classifier"),
    (lambda: zoo.resnet8x4(10), "fc"),
    (lambda: zoo.small_cnn(10), "10"),
    (lambda: timm.create_model("vit_tiny_patch16_224", depth=1), "head"),
]


@each(("make", "name"), HEADS)
def test_a_fresh_head_goes_where_the_old_one_was(
    make: Callable[[], nn.Module], name: str, info: pytest.LogCaptureFixture
) -> None:
    model = make().bfloat16().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fresh_head(model, 6)
    after = model.state_dict()
    assert f"replaced {name} (" in info.text
    assert after[f"{name}.weight"].shape[0] == len(after[f"{name}.bias"]) == 6
    rest = [key for key in before if not key.startswith(f"{name}.")]
    assert all(torch.equal(before[key], after[key]) for key in rest)
    assert before.keys() == after.keys()


def test_a_fresh_head_is_like_the_old_one() -> None:
    model = nn.Sequential(nn.Linear(4, 8, bias=False, dtype=torch.float64))
    fresh_head(model, 3)
    assert isinstance(model[0], nn.Linear)
    assert (model[0].bias, model[0].weight.dtype) == (None, torch.float64)


def test_a_head_that_cannot_be_found_is_one_line() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(2, 2)

    assert "but Own has ['encoder']" in refused(fresh_head, Own(), 3)
    assert "needs a number of classes" in refused(fresh_head, nn.Sequential(nn.Linear(2, 2)), None)


def test_preprocessing_is_that_of_the_published_weights() -> None:
    model = nn.Identity()
    found = preprocess_of(model, SMALL, True)
    assert found is not None
    assert (found.mean, found.std, found.shape) == (IMAGENET_MEAN, IMAGENET_STD, (224, 224))
    large = preprocess_of(model, "torchvision:vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    assert large is not None
    assert large.shape == (384, 384)


@each("pretrained", [True, False])
def test_preprocessing_of_timm_is_in_its_configuration(pretrained: bool) -> None:
    spec = "timm:vit_tiny_patch16_224"
    found = preprocess_of(build(spec, options={"depth": 1}), spec, pretrained)
    assert found is not None
    assert (found.mean, found.std, found.shape) == ((0.5,) * 3, (0.5,) * 3, (224, 224))


@each("spec", [SMALL, "limbeck.zoo:mlp"])
def test_a_model_without_published_weights_has_no_preprocessing(spec: str) -> None:
    assert preprocess_of(build(spec, classes=2), spec, False) is None


def test_b098_the_source_of_a_teachers_weights_is_said(info: pytest.LogCaptureFixture) -> None:
    as_module("timm:resnet10t")
    assert "timm:resnet10t: fresh weights" in info.text
    assert [r.levelname for r in info.records if "none are loaded" in r.message] == ["WARNING"]


@each(
    "teacher",
    [
        "limbeck.zoo:resnet20",
        nn.Linear(2, 3),
        lambda: nn.Linear(2, 3),
        zoo.resnet20,
        nn.Identity,
    ],
)
def test_b137_a_teacher_is_a_name_a_module_or_a_callable(teacher: Any) -> None:
    made = as_module(teacher)
    assert isinstance(made, nn.Module)
    assert made is teacher or not isinstance(teacher, nn.Module)


@each("kind", [Path, str])
def test_b137_a_teacher_is_a_path(kind: type, tmp_path: Path) -> None:
    source, path = nn.Linear(2, 3), tmp_path / "teacher.pt"
    torch.save(source, path)
    assert "unsafe_pickle" in refused(as_module, kind(path))
    assert equal(as_module(kind(path), unsafe_pickle=True), source)


def test_b137_a_name_can_bring_its_published_weights(tmp_path: Path) -> None:
    source = tv.mobilenet_v3_small()
    publish(tmp_path, tv.MobileNet_V3_Small_Weights.IMAGENET1K_V1, source)
    assert equal(as_module(SMALL, pretrained=True), source)


@each("teacher", [3, None, torch.ones(1), {"model": "resnet50"}, lambda: torch.ones(1)])
def test_b137_anything_else_is_a_type_error_that_lists_them(teacher: Any) -> None:
    kinds = r"a model name \(str\), a Path, an nn.Module or a callable that returns one, got \w+$"
    with pytest.raises(TypeError, match=f"^a teacher must be {kinds}"):
        as_module(teacher)


def test_b137_a_path_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert "must be a file" in refused(as_module, tmp_path / "none.pt")
    assert "must be torchvision:NAME" in refused(as_module, "none.pt")
