"""Teachers that are made faster say what the exact ones say, or are refused."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from click.testing import CliRunner
from tests.recipe.raws import problems, raw, refused
from torch import Tensor, nn

from limbeck.checkpoint import save_weights
from limbeck.cli import main
from limbeck.models import Int8Linear, build, cost, fold, quantise
from limbeck.recipe import assemble, check_recipe, run, validate
from limbeck.recipe.labelling import labelling
from limbeck.recipe.optimizing import gap, sample
from limbeck.signals import Batch, Signals
from limbeck.sources import Frozen
from limbeck.tasks import TASKS
from limbeck.train.ranks import Ranks
from limbeck.zoo import conv_bn, mlp, small_cnn

GREY = {"mean": [0.13], "std": [0.31]}


def lived(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model with batch statistics and scales as after some training, in eval mode."""
    random = torch.Generator().manual_seed(seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None:
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.3, generator=random)
            part.running_var.uniform_(0.5, 2, generator=random)
            part.weight.data.uniform_(0.5, 1.5, generator=random)
            part.bias.data.normal_(0, 0.3, generator=random)
    return model.eval()


def say(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)


# ---- batch norms

NETWORKS = {
    "limbeck.zoo:small_cnn": (1, 28, 3),
    "limbeck.zoo:resnet20": (3, 32, 21),
    "limbeck.zoo:resnet8x4": (3, 32, 10),
    "torchvision:resnet18": (3, 32, 20),
    "torchvision:mobilenet_v3_small": (3, 32, 34),
    "timm:efficientnet_b0": (3, 32, 49),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_folded_equals_exact(name: str) -> None:
    channels, size, norms = NETWORKS[name]
    torch.manual_seed(0)
    model = lived(build(name, classes=10))
    x, other = torch.randn(2, 4, channels, size, size)
    exact = say(model, other)
    assert len(fold(model, x)) == norms
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    torch.testing.assert_close(say(model, other), exact, rtol=0, atol=1e-5 * float(exact.std()))


def test_paths_stay_and_the_norms_place_gives_what_it_gave() -> None:
    model = lived(small_cnn(10, width=4))
    x, wants = torch.randn(2, 1, 28, 28), ["3.1", "6", "output"]
    paths = [path for path, _ in model.named_modules()]
    before = Frozen(model)(Batch(x), Signals(), wants)
    assert fold(model, x) == {"0.0": "0.1", "3.0": "3.1", "6.0": "6.1"}
    after = Frozen(model)(Batch(x), Signals(), wants)
    assert [path for path, _ in model.named_modules()] == paths
    for name in wants:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-5)


class Winding(nn.Module):
    """Cannot be traced as a whole; what is inside can."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList([conv_bn(1, 2), conv_bn(2, 2)])

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x.mean((2, 3)) if float(x.sum()) > 0 else x.amax((2, 3))


def test_the_parts_of_what_cannot_be_traced_are_folded(caplog: pytest.LogCaptureFixture) -> None:
    model, x = lived(Winding()), torch.randn(3, 1, 5, 5)
    exact = say(model, x)
    with caplog.at_level(logging.INFO, logger="limbeck"):
        assert fold(model, x) == {"parts.0.0": "parts.0.1", "parts.1.0": "parts.1.1"}
    assert "the model cannot be traced: " in caplog.text
    assert "2 batch norms folded into convolutions, 0 stay" in caplog.text
    torch.testing.assert_close(say(model, x), exact, rtol=0, atol=1e-5)


class Knotted(nn.Module):
    """Convolutions that more than a norm reads, modules that run twice or have two names."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
        self.again, self.twice = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
        self.shared = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
        self.alias = self.shared[0]
        self.batch = nn.BatchNorm2d(1, track_running_stats=False)
        self.plain = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.read(x)
        x = x + self.norm(x)
        x = self.twice(self.again(self.twice(self.again(x))))
        x = self.batch(self.plain(self.alias(self.shared(x))))
        return x.flatten(1)


def test_norms_that_are_not_alone_with_their_convolution_stay() -> None:
    model, x = lived(Knotted()), torch.randn(3, 1, 4, 4)
    exact = say(model, x)
    assert fold(model, x) == {}
    assert torch.equal(say(model, x), exact)


class Sly(nn.Module):
    """Goes behind the back of its part, where no trace can see it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = conv_bn(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        inside = self.part[0](x) if float(x.sum()) < 1e9 else x
        return (self.part(x) + inside).mean((2, 3))


def test_what_moves_the_logits_is_undone(caplog: pytest.LogCaptureFixture) -> None:
    model, x = lived(Sly()), torch.randn(3, 1, 5, 5)
    exact = say(model, x)
    assert fold(model, x) == {}
    assert "batch norms stay: folding them moves the logits by" in caplog.text
    assert torch.equal(say(model, x), exact)
    assert isinstance(model.get_submodule("part.1"), nn.BatchNorm2d)


# ---- integers


def test_integer_layers_compute_what_they_say() -> None:
    random = np.random.default_rng(0)
    layer = nn.Linear(5, 3)
    x = torch.from_numpy(random.normal(size=(2, 4, 5)).astype(np.float32))
    w, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    expected = np.zeros((2, 4, 3))
    for i, j in np.ndindex(2, 4):
        row = x[i, j].double().numpy()
        for k in range(3):
            s, t = np.abs(row).max() / 127, np.abs(w[k]).max() / 127
            dot = sum(round(a / s) * round(c / t) for a, c in zip(row, w[k], strict=True))
            expected[i, j, k] = dot * s * t + b[k]
    found = Int8Linear(layer)(x)
    assert found.shape == (2, 4, 3)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=1e-5)


def test_integer_layers_keep_precision_and_lack_of_a_bias() -> None:
    layer = nn.Linear(8, 4, bias=False)
    x = torch.randn(3, 8)
    found = Int8Linear(layer).bfloat16()(x.bfloat16())
    assert found.dtype == torch.bfloat16
    off = say(Int8Linear(layer), x) - say(layer, x)
    assert float(off.abs().max()) < 0.1 * float(say(layer, x).std())
    assert torch.equal(Int8Linear(layer)(torch.zeros(2, 8)), torch.zeros(2, 4))


def test_layers_whose_weights_others_read_stay() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.ModuleDict({"attention": attention, "encoder": encoder, "head": nn.Linear(8, 3)})
    assert quantise(model) == ["head"]
    x = torch.randn(2, 5, 8)
    assert say(encoder.eval(), x).shape == x.shape
    with pytest.raises(ValueError, match="int8 is for linear layers, and the teacher has none"):
        quantise(nn.Sequential(nn.Conv2d(1, 1, 1)))


class Elsewhere(nn.Module):
    """Its answers come from where no operation is counted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 3)


def test_the_cost_of_a_model_is_that_of_its_own_code() -> None:
    model = nn.Linear(4, 3)
    elsewhere = Elsewhere(model)
    for _ in range(2):
        assert cost(nn.Sequential(elsewhere), torch.zeros(2, 4)) == cost(model, torch.zeros(2, 4))
    assert not say(elsewhere, torch.ones(2, 4)).any(), "only while it is counted"


# ---- in recipes


def settings(**teacher) -> dict:
    """A recipe on the digits, its teacher with these keys."""
    block = {"model": "limbeck.zoo:small_cnn", "options": {"width": 4}, **GREY}
    return raw(
        data={"train": "digits:train", "valid": "digits:valid", "views": 1},
        teacher={**block, **teacher},
        student={"model": "limbeck.zoo:mlp", "options": {"hidden": 4}, **GREY},
        train={"max_steps": 3, "batch_size": 64},
    )


def source(**teacher) -> Frozen:
    found = assemble(validate(settings(**teacher)), Ranks()).distiller.sources["teacher"]
    assert isinstance(found, Frozen)
    return found


def answers(found: Frozen) -> Tensor:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8)
    return found(Batch(images), Signals(), ["output"])["output"]


def test_steps_compose_and_what_they_cost_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    exact = answers(source())
    with caplog.at_level(logging.INFO, logger="limbeck"):
        found = source(
            precision="bfloat16", channels_last=True, optimize={"fold_bn": True, "int8": True}
        )
    assert "teacher in bfloat16, batch norms folded, int8: largest logit error" in caplog.text
    assert "agreement" in caplog.text
    assert isinstance(found.model[-1], Int8Linear)
    assert found.model[0][0].weight.dtype == torch.bfloat16
    assert found.model[3][0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in found.model.modules())
    off = float((answers(found) - exact).abs().max() / exact.std())
    assert 1e-4 < off < 0.2


def test_the_output_of_a_folded_convolution_cannot_be_matched() -> None:
    given = settings(optimize={"fold_bn": True})
    hint = {"loss": "hint", "student": "1", "theirs": "3.0", "project": "linear"}
    given["objective"] = [{"loss": "truth"}, hint]
    told = refused(lambda: assemble(validate(given), Ranks()))
    assert told.startswith("'3.0' is part of a folded batch norm: match '3.1'")


def outlier(folder: Path) -> Path:
    """A teacher whose first weights have one far outside, on a pixel that is always black."""
    torch.manual_seed(0)
    model = mlp(10, hidden=32)
    with torch.no_grad():
        model[1].weight[:, 0] = 1e4
        model[1].bias += 1e4 * 0.13 / 0.31
    save_weights(model, folder / "outlier.safetensors")
    return folder / "outlier.safetensors"


def test_a_teacher_that_loses_is_refused_in_one_line(tmp_path: Path) -> None:
    block = {
        "model": "limbeck.zoo:mlp",
        "options": {"hidden": 32},
        "checkpoint": str(outlier(tmp_path)),
    }
    told = refused(lambda: source(**block, optimize={"int8": True}))
    assert "of 256 images otherwise than the exact one" in told
    assert "optimize.loses allows 2 %" in told
    assert (
        source(**block, optimize={"int8": True, "loses": 1.0}).model[1].integers.dtype == torch.int8
    )
    assert source(**block, optimize={"fold_bn": True}) is not None


def test_what_does_not_go_together_is_said_before_anything_runs() -> None:
    both = settings(optimize={"int8": True, "engine": "openvino"})
    assert problems(validate, both) == [
        "teacher.optimize: int8 layers are torch's; leave out int8, or engine: openvino"
    ]
    formats = settings(channels_last=True, optimize={"engine": "openvino"})
    assert problems(validate, formats) == [
        "teacher: OpenVINO has formats of its own; leave out channels_last"
    ]
    device = settings(optimize={"int8": True})
    device["train"]["device"] = "cuda"
    told = refused(lambda: assemble(validate(device), Ranks()))
    assert told == "optimize: int8 is for the CPU, but this trains on cuda"


def test_the_sample_is_of_labelled_images_in_batches_of_the_training() -> None:
    given = settings()
    given["data"]["labels"] = 200
    built = assemble(validate(given), Ranks())
    images = built.splits.train
    shown = sample(images, built.recipe.train)
    assert [len(ids) for ids in shown] == [64, 64, 64]
    assert bool((images.labels[torch.cat(shown)] >= 0).all())


@pytest.mark.parametrize(
    ("task", "changed"), [("classification", 0.5), ("multilabel", 0.25), ("regression", 0.75)]
)
def test_how_much_a_teacher_sees_otherwise_depends_on_the_task(task: str, changed: float) -> None:
    exact = torch.tensor([[2.0, 1.0], [1.0, -2.0]])
    fast = torch.tensor([[1.5, 1.6], [-0.2, -2.0]])
    found = gap(fast, exact, TASKS[task])
    assert (found.changed, found.images) == (changed, 2)
    assert found.error == pytest.approx(1.2 / float(exact.std()))
    assert gap(exact, exact, TASKS[task]).changed == gap(exact, exact, TASKS[task]).error == 0
    broken = gap(fast * torch.nan, exact, TASKS[task])
    assert (broken.changed, broken.error) == (1.0, float("inf"))


def test_stores_tell_faster_teachers_apart(tmp_path: Path) -> None:
    save_weights(lived(small_cnn(10, width=4)), tmp_path / "t.safetensors")
    kept = {"checkpoint": str(tmp_path / "t.safetensors")}
    told = [
        json.dumps(labelling(validate(settings(**kept, **more))).about["teacher"], sort_keys=True)
        for more in (
            {},
            {"optimize": {"fold_bn": True}},
            {"optimize": {"int8": True}},
            {"optimize": {"fold_bn": True}, "precision": "bfloat16"},
        )
    ]
    assert len(set(told)) == 4
    assert "optimize" not in told[0], "stores of exact teachers are what they were"

    path, store = tmp_path / "recipe.yaml", str(tmp_path / "store")
    path.write_text(yaml.safe_dump(settings(**kept)))
    faster = "teacher.optimize={fold_bn: true}"
    for arguments, code in (
        (["write", str(path), store], 0),
        (["verify", str(path), store], 0),
        (["verify", str(path), store, faster], 1),
    ):
        result = CliRunner().invoke(main, ["store", *arguments])
        assert result.exit_code == code, result.output
    assert "belongs to another store" in result.output
    assert "fold_bn" in result.output


def test_a_teacher_is_fitted_first_and_faster_then(tmp_path: Path) -> None:
    fit = {"max_steps": 3, "batch_size": 64}
    given = settings(fit=fit, optimize={"fold_bn": True, "loses": 0.0}, record=True)
    run(validate(given), tmp_path / "run")
    kept = [each for each in (tmp_path / "run" / "teacher").iterdir() if each.is_file()]
    assert "student.safetensors" in {each.name for each in kept}


def test_a_check_says_the_error_of_a_faster_teacher() -> None:
    given = settings(optimize={"int8": True, "loses": 1.0})
    found = check_recipe(validate(given))["models"]["teacher"]["logit_error"]
    assert 0 < found < 1
    assert "logit_error" not in check_recipe(validate(settings()))["models"]["teacher"]


@pytest.mark.slow
def test_a_compiled_teacher_answers_alike_with_taps_too() -> None:
    torch._dynamo.reset()
    given = {"model": "limbeck.zoo:small_cnn"}
    exact, compiled = source(**given), source(**given, optimize={"engine": "compile"})
    torch.testing.assert_close(answers(compiled), answers(exact), rtol=0, atol=1e-5)
    shown = Batch(torch.randint(0, 256, (8, 1, 28, 28), dtype=torch.uint8))
    both = [each(shown, Signals(), ["3.1", "output"]) for each in (exact, compiled)]
    for name in ("3.1", "output"):
        torch.testing.assert_close(both[1][name], both[0][name], rtol=0, atol=1e-5)
    torch._dynamo.reset()


# ---- OpenVINO


@pytest.fixture
def openvino() -> None:
    pytest.importorskip("openvino")


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_openvino_answers_as_torch_does(precision: str, most: float) -> None:
    exact = answers(source())
    found = source(precision=precision, optimize={"engine": "openvino", "fold_bn": True})
    off = float((answers(found) - exact).abs().max() / exact.std())
    assert off < most
    assert found(Batch(torch.zeros(3, 1, 28, 28)), Signals(), ["output"])["output"].shape == (3, 10)
    assert cost(found.model, torch.zeros(2, 1, 28, 28))["flops"] > 0
    with pytest.raises(ValueError, match=r"'3.1' does not run in OpenVINO"):
        found.check(["3.1"])


class Refusing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if float(x.sum()) > 0 else x


def refusing() -> nn.Module:
    return nn.Sequential(Refusing(), small_cnn(10, width=2))


@pytest.mark.usefixtures("openvino")
def test_what_openvino_cannot_run_is_one_line() -> None:
    given = {"model": f"{__name__}:refusing", "options": {}}
    told = refused(lambda: source(**given, optimize={"engine": "openvino"}))
    assert told.startswith("OpenVINO cannot run Sequential: ")


def test_without_openvino_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    told = refused(lambda: source(optimize={"engine": "openvino"}))
    assert told == "this needs openvino: pip install 'limbeck[openvino]'"
