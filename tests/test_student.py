"""The student stays the plain model that it was; public reports by their ids."""

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.networks import Convs, batch, mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbeck import Distiller, Match, losses, truth
from limbeck.checkpoint import save_weights
from limbeck.errors import LimbeckError
from limbeck.projectors import linear

X, Y = batch()
Wrap = Callable[[nn.Module], nn.Module]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def distil(student: nn.Module, teacher: nn.Module, x: Tensor, *paths: str) -> Distiller:
    """A few steps on labels, soft labels and hints."""
    objective = truth() + Match(losses.kl, temperature=4)
    for path in paths:
        objective = objective + Match(losses.hint, path)
    distiller = Distiller(student, teacher, objective)
    distiller.prepare(x, target=Y[: len(x)])
    optimizer = torch.optim.SGD(distiller.parameters(), 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        distiller(x, target=Y[: len(x)]).loss.backward()
        optimizer.step()
    return distiller


WRAPS = {
    "plain": lambda m: m,
    "ddp": DistributedDataParallel,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "compiled ddp": lambda m: torch.compile(DistributedDataParallel(m), backend="eager"),
    "ddp of compiled": lambda m: DistributedDataParallel(torch.compile(m, backend="eager")),
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", WRAPS)
def test_b082_student_keys_are_plain_whatever_wraps_it(name: str, tmp_path: Path) -> None:
    distiller = distil(WRAPS[name](mlp()), mlp(seed=1), X, "body")
    fresh = mlp(seed=2)
    fresh.load_state_dict(distiller.student.state_dict(), strict=True)
    assert set(distiller.state_dict()) == {f"student.{key}" for key in fresh.state_dict()}
    assert torch.equal(fresh(X), distiller(X, target=Y).output)
    save_weights(distiller.student, tmp_path / "student.safetensors")
    mlp(seed=2).load_state_dict(load_file(tmp_path / "student.safetensors"), strict=True)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", [name for name in WRAPS if name != "plain"])
def test_b059_taps_are_found_inside_of_wrappers(name: str) -> None:
    expected = distil(mlp(), mlp(seed=1), X, "body")(X, target=Y)
    step = distil(WRAPS[name](mlp()), WRAPS[name](mlp(seed=1)), X, "body")(X, target=Y)
    assert step.parts["hint[body]"] > 0
    torch.testing.assert_close(step.parts, expected.parts)


@pytest.mark.usefixtures("alone")
def test_b059_names_that_match_nothing_are_errors_inside_of_wrappers() -> None:
    with pytest.raises(LimbeckError, match="got 'bdy'; did you mean 'body'"):
        distil(DistributedDataParallel(mlp()), mlp(seed=1), X, "bdy")


def test_b085_a_student_saved_at_any_step_answers_without_limbeck(tmp_path: Path) -> None:
    student = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    objective = truth() + Match(losses.hint, "1", "body", project=linear)
    distiller = Distiller(student, mlp(5), objective)
    distiller.prepare(X, target=Y)
    distiller(X, target=Y).loss.backward()
    torch.save(distiller.student.state_dict(), tmp_path / "student.pt")
    torch.save(X, tmp_path / "x.pt")
    script = (
        "import sys, torch; sys.modules['limbeck'] = None; torch.set_num_threads(1)\n"
        "from torch import nn\n"
        "m = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))\n"
        "m.load_state_dict(torch.load('student.pt', weights_only=True), strict=True)\n"
        "torch.save(m.eval()(torch.load('x.pt')), 'y.pt')"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert torch.equal(torch.load(tmp_path / "y.pt"), student.eval()(X))


def test_b121_exporting_in_the_middle_of_training() -> None:
    distiller = distil(mlp(), mlp(seed=1), X, "stem", "body")
    before = distiller(X, target=Y)
    exported = torch.export.export(distiller.student, (X,))
    torch.testing.assert_close(exported.module()(X), distiller.student(X))
    after = distiller(X, target=Y)
    assert type(after.loss) is Tensor
    assert torch.equal(after.loss, before.loss)
    after.loss.backward()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize(
    "convert", [torch.jit.script, lambda m: torch.jit.trace(m, X)], ids=["script", "trace"]
)
def test_b122_torchscript_in_the_middle_of_training(convert: Wrap) -> None:
    distiller = distil(mlp(), mlp(seed=1), X, "body")
    file = io.BytesIO()
    torch.jit.save(convert(distiller.student), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(X), distiller.student(X))
    assert distiller(X, target=Y).parts["hint[body]"] > 0


def test_b124_saving_changes_nothing() -> None:
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 3))
    distiller = Distiller(student, mlp(), truth() + Match(losses.hint, "1", "stem"))
    distiller(X, target=Y).loss.backward()
    before, layers = student.eval()(X), repr(student)
    file = io.BytesIO()
    torch.save(student, file)
    exported = torch.export.export(student, (X,)).module()
    file.seek(0)
    reloaded = torch.load(file, weights_only=False)
    for model in (student, reloaded, exported):
        torch.testing.assert_close(model(X), before, rtol=0, atol=1e-5)
    assert repr(student) == repr(reloaded) == layers


def test_b125_a_student_is_fused_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 8, 8)
    distiller = distil(Convs(), Convs(), images, "act")
    student = distiller.student.eval()
    before = student(images)
    fused = torch.nn.Sequential(fuse_conv_bn_eval(student.conv, student.norm), student.act)
    after = student.head(fused(images).mean((2, 3)))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)
    assert any(isinstance(m, nn.BatchNorm2d) for m in distiller.sources["teacher"].model.modules())


class FakeQuantised(nn.Linear):
    """A linear layer whose weight is rounded to 8 bits, straight through in the backward."""

    def forward(self, x: Tensor) -> Tensor:
        scale = float(self.weight.detach().abs().max()) / 127
        weight = torch.fake_quantize_per_tensor_affine(self.weight, scale, 0, -128, 127)
        return nn.functional.linear(x, weight, self.bias)


def test_b125_a_fake_quantised_student_is_distilled() -> None:
    student = mlp()
    student.body = FakeQuantised(8, 8)
    before = student.body.weight.clone()
    distiller = distil(student, mlp(seed=1), X, "body")
    assert not torch.equal(student.body.weight, before)
    integers = student.body.weight / (student.body.weight.abs().max() / 127)
    rounded = nn.Linear(8, 8)
    with torch.no_grad():
        rounded.weight.copy_(integers.round() * (student.body.weight.abs().max() / 127))
        rounded.bias.copy_(student.body.bias)
    quantised = distiller.student.eval()(X)
    student.body = rounded
    torch.testing.assert_close(student(X), quantised, rtol=0, atol=1e-4)
