"""Export: the folder runs without limbeck, answers like the live student, and leaves no trace."""

import ast
import hashlib
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from limbeck import Distiller, Match, losses, truth
from limbeck.data.files import centred, decode
from limbeck.errors import LimbeckError
from limbeck.export import export
from limbeck.export import folder as folder_module
from limbeck.export.code import Code
from limbeck.export.guide import guide
from limbeck.export.onnx import check_onnx
from limbeck.export.view import View
from limbeck.inputs import Preprocess
from limbeck.models import build
from limbeck.tasks import MULTILABEL, REGRESSION, Task
from limbeck.zoo import small_cnn

CLASSES = ("cat", "dog", "bird", "fish")
SIZE = (3, 16, 16)
MODEL, OPTIONS = "limbeck.zoo:small_cnn", {"width": 8, "channels": 3}
PREPROCESS = Preprocess((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
FILES = {
    *("README.md", "classes.txt", "export.json", "network.py", "preprocess.json"),
    *("student.onnx", "student.safetensors"),
}


Net = TypeVar("Net", bound=nn.Module)


def shaken(model: Net, seed: int = 0) -> Net:
    """A model whose statistics and weights are like trained ones, left in training mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                mean, var = module.get_buffer("running_mean"), module.get_buffer("running_var")
                mean.normal_(0, 0.2, generator=generator)
                var.uniform_(0.2, 1, generator=generator)
                module.weight.uniform_(1, 2, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
            if isinstance(module, nn.Linear):
                module.weight.normal_(0, 0.3, generator=generator)
    return model.train()


@pytest.fixture
def student() -> nn.Sequential:
    torch.manual_seed(0)
    return shaken(small_cnn(4, 8, 3))


def exported(student: nn.Module, out: Path, **keywords: Any) -> dict[str, Any]:
    """The tiny student's export, without ONNX unless asked."""
    given: dict[str, Any] = {"model": MODEL, "options": OPTIONS, "onnx": False, **keywords}
    return export(student, PREPROCESS, CLASSES, SIZE, out, **given)


def answers(student: nn.Module, images: Tensor) -> Tensor:
    """Logits in eval mode; the student's mode is restored."""
    training = student.training
    student.eval()
    with torch.no_grad():
        logits = student(PREPROCESS(images))
    student.train(training)
    return logits


def noise(rows: int = 5, size: tuple[int, int, int] = SIZE, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, *size), dtype=torch.uint8, generator=generator)


def loaded(out: Path) -> nn.Sequential:
    fresh = small_cnn(4, 8, 3)
    fresh.load_state_dict(load_file(out / "student.safetensors"), strict=True)
    return fresh.eval()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path, dict[str, Any]]:
    """A student, its folder with ONNX, and what the export returned."""
    torch.manual_seed(0)
    student, out = shaken(small_cnn(4, 8, 3)), tmp_path_factory.mktemp("ship") / "model"
    return student, out, exported(student, out, onnx=True)


Shipped = tuple[nn.Module, Path, dict[str, Any]]


def test_the_folder_is_whole_and_says_what_it_holds(shipped: Shipped) -> None:
    _, out, document = shipped
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "export.json").read_text()) == document
    assert document["sha256"].keys() == FILES - {"export.json"}
    for name, digest in document["sha256"].items():
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    assert (out / "classes.txt").read_text().splitlines() == list(CLASSES)
    assert json.loads((out / "preprocess.json").read_text()) == {
        "image": [3, 16, 16],
        "size": [16, 16],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.3, 0.4],
        "how": "x / 255, (x - mean) / std",
    }
    assert {"python", "limbeck", "torch", "onnx", "onnxscript", "onnxruntime"} <= set(
        document["versions"]
    )
    assert [path.name for path in out.parent.iterdir()] == ["model"]


def test_the_differences_are_measured_and_small(shipped: Shipped) -> None:
    _, _, document = shipped
    assert document["differences"].keys() == {"safetensors", "onnx, batch 1", "onnx, batch 3"}
    assert all(0 <= d <= 1e-5 for d in document["differences"].values())


def test_the_weights_load_strictly_and_answer_like_the_student(shipped: Shipped) -> None:
    student, out, _ = shipped
    expected = answers(student, noise())
    assert expected.std() > 0.1
    torch.testing.assert_close(answers(loaded(out), noise()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_onnx_answers_like_the_student_for_any_batch(shipped: Shipped, rows: int) -> None:
    import onnxruntime

    student, out, _ = shipped
    session = onnxruntime.InferenceSession(out / "student.onnx")
    (logits,) = session.run(None, {"images": PREPROCESS(noise(rows)).numpy()})
    expected = answers(student, noise(rows))
    torch.testing.assert_close(torch.from_numpy(logits), expected, rtol=0, atol=1e-4)


def test_onnx_that_answers_otherwise_is_refused(shipped: Shipped) -> None:
    student, out, _ = shipped
    expected = answers(student, noise(3))
    expected[1, 2] += 1e-2
    with pytest.raises(LimbeckError, match=r"student.onnx at batch 3 must .* differs by 0.01"):
        check_onnx(out / "student.onnx", PREPROCESS(noise(3)), expected)


# The README


def blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)


def run_readme(out: Path, folder: Path) -> dict[str, Any]:
    """The README's code on `image.png`, in a process of its own that cannot import limbeck."""
    (folder / "blocked").mkdir()
    (folder / "blocked" / "limbeck.py").write_text("raise ImportError('limbeck is not here')\n")
    code = [f"import sys; sys.path[:0] = {[str(folder / 'blocked'), str(out)]!r}", "kept = {}"]
    for number, block in enumerate(blocks((out / "README.md").read_text())):
        code += [block, f"kept[{number}] = globals().get('logits')"]
    code += [
        "try:\n    import limbeck\nexcept ImportError as error:\n    reason = str(error)",
        "import json",
        "print(json.dumps([reason, *(v.tolist() for v in kept.values() if v is not None)]))",
    ]
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(code)],
        cwd=out,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    *printed, last = ran.stdout.splitlines()
    reason, *logits = json.loads(last)
    assert reason == "limbeck is not here"
    return {"printed": printed, "logits": [torch.tensor(x) for x in logits]}


def picture(path: Path, width: int, height: int) -> None:
    pixels = noise(1, (3, height, width))[0].permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)


def test_the_readme_runs_where_limbeck_cannot_be_imported(shipped: Shipped, tmp_path: Path) -> None:
    student, out, _ = shipped
    picture(out / "image.png", 16, 16)
    try:
        ran = run_readme(out, tmp_path)
    finally:
        (out / "image.png").unlink()
    expected = answers(student, noise(1))
    assert ran["printed"] == 2 * [CLASSES[int(expected.argmax())]]
    for logits in ran["logits"]:
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert len(ran["logits"]) == 2


def names_above_zero(logits: Tensor) -> list[str]:
    return [name for name, logit in zip(CLASSES, logits.tolist(), strict=True) if logit > 0]


@pytest.mark.parametrize("task", [MULTILABEL, REGRESSION], ids=["multilabel", "regression"])
def test_the_readme_of_another_task_reads_its_answers(
    task: Task, student: nn.Sequential, tmp_path: Path
) -> None:
    """Twice: with torch and with onnxruntime."""
    out = tmp_path / "model"
    exported(student, out, onnx=True, task=task)
    picture(out / "image.png", 16, 16)
    ran = run_readme(out, tmp_path)
    expected = answers(student, noise(1))[0]
    assert len(ran["printed"]) == 2
    for printed in map(ast.literal_eval, ran["printed"]):
        if task is MULTILABEL:
            assert printed == names_above_zero(expected)
            assert 0 < len(printed) < len(CLASSES)
        else:
            assert list(printed) == list(CLASSES)
            assert list(printed.values()) == pytest.approx(expected.tolist(), abs=1e-4)


def mobilenet_runs(tmp_path: Path, onnx: bool) -> dict[str, float]:
    name = "torchvision:mobilenet_v3_small"
    torch.manual_seed(0)
    student = shaken(build(name, classes=4))
    out = tmp_path / "model"
    preprocess = Preprocess(size=64)
    document = export(student, preprocess, CLASSES, (3, 64, 64), out, model=name, onnx=onnx)
    picture(out / "image.png", 64, 64)
    ran = run_readme(out, tmp_path)
    student.eval()
    with torch.no_grad():
        expected = student(preprocess(noise(1, (3, 64, 64))))
    assert expected.std() > 0.1
    assert len(ran["logits"]) == 1 + onnx
    for logits in ran["logits"]:
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    return document["differences"]


def test_a_torchvision_student_runs_from_its_readme(tmp_path: Path) -> None:
    assert mobilenet_runs(tmp_path, onnx=False).keys() == {"safetensors"}


@pytest.mark.slow
def test_a_torchvision_student_runs_from_its_readme_as_onnx(tmp_path: Path) -> None:
    assert mobilenet_runs(tmp_path, onnx=True).keys() > {"safetensors"}


def input_of(view: View, path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the README's first block makes of a file."""
    (folder / "classes.txt").write_text("a\n")
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(blocks(guide(Code.of(MODEL, 1, OPTIONS), view, onnx=True))[0], names)
    return torch.from_numpy(names["network_input"](path))


@pytest.mark.parametrize(("width", "height"), [(16, 16), (40, 24), (9, 12), (16, 17)])
def test_the_readme_crops_a_file_as_evaluation_does(
    width: int, height: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(tmp_path / "image.png", width, height)
    made = input_of(View.of(PREPROCESS, SIZE), tmp_path / "image.png", tmp_path, monkeypatch)
    pixels = torch.from_numpy(centred(decode(tmp_path / "image.png"), 16)).permute(2, 0, 1)
    torch.testing.assert_close(made, PREPROCESS(pixels[None]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("preprocess", "image"),
    [
        (Preprocess((0.13,), (0.31,)), (1, 12, 12)),
        (Preprocess((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), (1, 12, 12)),
        (Preprocess((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)), (3, 10, 14)),
    ],
)
def test_the_readme_reads_grey_and_oblong_images(
    preprocess: Preprocess,
    image: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = noise(1, image)
    array = pixels[0].permute(1, 2, 0).numpy()
    Image.fromarray(array[..., 0] if image[0] == 1 else array).save(tmp_path / "image.png")
    made = input_of(View.of(preprocess, image), tmp_path / "image.png", tmp_path, monkeypatch)
    torch.testing.assert_close(made, preprocess(pixels), rtol=0, atol=1e-5)


def test_the_readme_resizes_where_the_student_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = Preprocess((0.5,) * 3, (0.25,) * 3, size=(8, 12))
    picture(tmp_path / "image.png", 16, 16)
    view = View.of(preprocess, SIZE)
    made = input_of(view, tmp_path / "image.png", tmp_path, monkeypatch)
    # Pillow rounds to whole pixel values after each direction.
    torch.testing.assert_close(made, preprocess(noise(1)), rtol=0, atol=1.5 / 255 / 0.25)
    assert view.how == "x / 255, resize to 8 x 12 (bilinear, antialias), (x - mean) / std"


@pytest.mark.parametrize(
    ("model", "options", "imports", "call"),
    [
        (
            "timm:resnet18",
            {"drop_rate": 0.1},
            "import timm",
            'timm.create_model("resnet18", num_classes=4, drop_rate=0.1)',
        ),
        (
            "torchvision:mobilenet_v3_small",
            {},
            "from torchvision.models import get_model",
            'get_model("mobilenet_v3_small", weights=None, num_classes=4)',
        ),
        (MODEL, OPTIONS, "from network import small_cnn", "small_cnn(classes=4, width=8, "),
    ],
)
def test_the_code_builds_the_network(
    model: str, options: dict[str, Any], imports: str, call: str
) -> None:
    code = Code.of(model, 4, options)
    assert code.imports == imports
    assert code.call.startswith(call)
    assert (code.source is not None) == (model == MODEL)


# The live student


def traces(student: nn.Module) -> list[Any]:
    """All that an export might change in a student."""
    state = [value.clone() for value in student.state_dict().values()]
    return [
        [(m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for m in student.modules()],
        [(p.stride(), p.dtype, p.requires_grad, p.data_ptr()) for p in student.parameters()],
        [sorted(m.__dict__) for m in student.modules()],
        [str(m) for m in student.modules()],
        state,
    ]


def same(a: list[Any], b: list[Any]) -> bool:
    states = all(torch.equal(x, y) for x, y in zip(a[-1], b[-1], strict=True))
    return states and a[:-1] == b[:-1]


def test_the_student_is_as_it_was_and_so_are_random_numbers(
    student: nn.Sequential, tmp_path: Path
) -> None:
    student[1].eval()
    seen: list[Tensor] = []
    student[3].register_forward_hook(lambda module, args, output: seen.append(output))
    before, rng = traces(student), torch.get_rng_state()
    exported(student, tmp_path / "model", onnx=True)
    assert same(traces(student), before)
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(type(value) is Tensor and bool(value.isfinite().all()) for value in seen)


def in_channels_last(student: nn.Sequential) -> nn.Module:
    return student.to(memory_format=torch.channels_last)


def compiled_in_place(student: nn.Sequential) -> nn.Module:
    student.compile(backend="eager")
    return student


def compiled(student: nn.Sequential) -> nn.Module:
    return cast("nn.Module", torch.compile(student, backend="eager"))


def in_bfloat16(student: nn.Sequential) -> nn.Module:
    return student.to(torch.bfloat16)


def frozen(student: nn.Sequential) -> nn.Module:
    return student.requires_grad_(False)


@pytest.mark.parametrize(
    "change", [in_channels_last, compiled_in_place, compiled, in_bfloat16, frozen]
)
def test_whatever_the_student_is_in_the_export_is_plain(
    change: Callable[[nn.Sequential], nn.Module], student: nn.Sequential, tmp_path: Path
) -> None:
    changed = change(student)
    before = traces(changed)
    document = exported(changed, tmp_path / "model")
    assert same(traces(changed), before)
    assert document["differences"]["safetensors"] <= 1e-5
    state = load_file(tmp_path / "model" / "student.safetensors")
    assert state.keys() == small_cnn(4, 8, 3).state_dict().keys()
    assert all(value.is_contiguous() for value in state.values())


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'ranks'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("one_rank")
def test_a_student_in_ddp_exports_its_plain_self(student: nn.Sequential, tmp_path: Path) -> None:
    wrapped = nn.parallel.DistributedDataParallel(student)
    exported(wrapped, tmp_path / "model")
    torch.testing.assert_close(
        answers(loaded(tmp_path / "model"), noise()), answers(student, noise()), rtol=0, atol=1e-5
    )


# What is refused


def nothing_is_left(folder: Path) -> bool:
    return not any(folder.iterdir())


def test_a_folder_in_use_is_refused_and_left_alone(student: nn.Sequential, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LimbeckError, match=r"must be a folder that is new or empty, got .*; name"):
        exported(student, tmp_path)
    with pytest.raises(LimbeckError, match="must be a folder that is new or empty"):
        exported(student, tmp_path / "mine.txt")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_empty_folder_and_new_parents_are_welcome(
    student: nn.Sequential, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "a" / "b"):
        exported(student, out)
        assert {path.name for path in out.iterdir()} == FILES - {"student.onnx"}
        assert "onnx" not in (out / "README.md").read_text()


def test_another_network_is_refused_by_what_fits(student: nn.Sequential, tmp_path: Path) -> None:
    with pytest.raises(LimbeckError, match=r"^student.safetensors must fit .*student's network\?$"):
        exported(student, tmp_path / "model", options={"width": 4, "channels": 3})
    assert nothing_is_left(tmp_path)


def test_other_numbers_of_classes_and_channels_are_refused(
    student: nn.Sequential, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    with pytest.raises(LimbeckError, match="got 4 logits for 2 classes"):
        export(student, PREPROCESS, ("a", "b"), SIZE, out, model=MODEL, options=OPTIONS)
    with pytest.raises(LimbeckError, match=r"`size` must begin with 1 or 3 channels, got \(4, "):
        export(student, PREPROCESS, CLASSES, (4, 16, 16), out, model=MODEL, options=OPTIONS)
    assert nothing_is_left(tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_says_how_to_get_it(
    package: str, student: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(LimbeckError, match=rf"this needs {package}: pip install 'limbeck\[onnx\]'"):
        exported(student, tmp_path / "model", onnx=True)
    assert nothing_is_left(tmp_path)


def test_a_full_disk_leaves_nothing(
    student: nn.Sequential, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "write_text", full)
    with pytest.raises(LimbeckError, match=r"could not be written: .*No space left"):
        exported(student, tmp_path / "model")
    assert nothing_is_left(tmp_path)


NETWORKS = """
from torch import nn

def gelu(classes, act="gelu"):
    middle = nn.GELU() if act == "gelu" else nn.Identity()
    head = nn.Dropout(0.5), nn.Linear(16, classes)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), middle, *head)

class Branch(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.fc = nn.Linear(48, classes)

    def forward(self, x):
        x = self.fc(x.flatten(1))
        return x + 1 if float(x.sum()) > 0 else x

def branch(classes):
    return Branch(classes)
"""


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of one's own, outside limbeck."""
    name = f"networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_forward_that_onnx_cannot_express_is_refused(networks: str, tmp_path: Path) -> None:
    model = f"{networks}:branch"
    student, out = build(model, classes=4), tmp_path / "out" / "model"
    out.parent.mkdir()
    with pytest.raises(LimbeckError, match=r"could not be written as ONNX: .*onnx=False$") as told:
        export(student, PREPROCESS, CLASSES, (3, 4, 4), out, model=model)
    assert "\n" not in str(told.value)
    assert nothing_is_left(out.parent)


# Public bug reports, named by their ids


def distilled(
    student: nn.Sequential, tap: str, size: tuple[int, int, int] = SIZE
) -> Callable[[], Any]:
    """A training step with a tap; calling it takes one."""
    torch.manual_seed(1)
    teacher = shaken(small_cnn(4, 8, 3), seed=1)
    objective = truth() + Match(losses.kl) + Match(losses.hint, tap, "3", name="hint")
    distiller = Distiller(student, teacher, objective)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.01)
    x, y = PREPROCESS(noise(6, size)), torch.arange(6) % 4

    def step() -> Any:
        taken = distiller(x, target=y)
        optimizer.zero_grad()
        taken.loss.backward()
        optimizer.step()
        held = [tap.seen for plan in distiller.reader.plans.values() for tap in plan.taps.taps]
        assert held == [[]]
        return taken

    return step


def test_b121_export_in_the_middle_of_training_leaves_training_real(
    student: nn.Sequential, tmp_path: Path
) -> None:
    step = distilled(student, "3")
    first = step()
    exported(student, tmp_path / "model", onnx=True)
    torch.export.export(student, (PREPROCESS(noise(2)),))
    second = step()
    for taken in (first, second):
        assert all(type(part) is Tensor for part in taken.parts.values())
        assert bool(torch.stack(list(taken.parts.values())).isfinite().all())
    assert float(second.parts["hint"]) != float(first.parts["hint"])
    grads = [p.grad for p in student.parameters()]
    assert all(type(g) is Tensor and bool(g.isfinite().all()) for g in grads)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_b122_torchscript_takes_a_student_between_steps(
    student: nn.Sequential, tmp_path: Path
) -> None:
    step = distilled(student, "3")
    step()
    student.eval()
    x = PREPROCESS(noise())
    with torch.no_grad():
        expected = student(x)
        for made in (torch.jit.script(student), torch.jit.trace(student, x)):
            torch.jit.save(made, str(tmp_path / "student.pt"))
            again = torch.jit.load(str(tmp_path / "student.pt"))
            torch.testing.assert_close(again(x), expected, rtol=0, atol=1e-5)
    assert bool(step().loss.isfinite())


def test_b124_saving_leaves_activations_where_they_are(networks: str, tmp_path: Path) -> None:
    import onnxruntime

    model, out = f"{networks}:gelu", tmp_path / "model"
    torch.manual_seed(0)
    student = cast("nn.Sequential", build(model, classes=4)).train()
    x = PREPROCESS(noise(5, (3, 4, 4)))
    student.eval()
    with torch.no_grad():
        before = student(x)
    student.train()
    export(student, PREPROCESS, CLASSES, (3, 4, 4), out, model=model)
    assert isinstance(student[2], nn.GELU)
    assert student.training
    assert student[3].p == 0.5
    fresh = build(model, classes=4)
    fresh.load_state_dict(load_file(out / "student.safetensors"), strict=True)
    with torch.no_grad():
        after, reloaded = student.eval()(x), fresh.eval()(x)
    (onnx,) = onnxruntime.InferenceSession(out / "student.onnx").run(None, {"images": x.numpy()})
    for logits in (after, reloaded, torch.from_numpy(onnx)):
        torch.testing.assert_close(logits, before, rtol=0, atol=1e-5)


def test_b124_a_network_that_lost_its_activation_is_refused(networks: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, out = build(f"{networks}:gelu", classes=4), tmp_path / "out" / "model"
    out.parent.mkdir()
    keywords = {"model": f"{networks}:gelu", "options": {"act": "none"}, "onnx": False}
    with pytest.raises(LimbeckError, match=r"must answer like the live student, but a logit diff"):
        export(student, PREPROCESS, CLASSES, (3, 4, 4), out, **keywords)
    assert nothing_is_left(out.parent)


def fused_by_hand(student: nn.Sequential) -> nn.Module:
    """Each pair of convolution and batch norm as one convolution."""
    for k in (0, 3, 6):
        conv, norm = cast("tuple[nn.Conv2d, nn.BatchNorm2d]", tuple(student[k].children()))
        student[k] = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    return student


def fused_by_torch(student: nn.Sequential) -> nn.Module:
    names = [[f"{k}.0", f"{k}.1"] for k in (0, 3, 6)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.ao.quantization is deprecated")
        return torch.ao.quantization.fuse_modules(student, names)


@pytest.mark.parametrize("fuse", [fused_by_hand, fused_by_torch])
def test_b125_a_distilled_student_fuses_to_the_same_answers(
    fuse: Callable[[nn.Sequential], nn.Module], student: nn.Sequential, tmp_path: Path
) -> None:
    distilled(student, "3")()
    exported(student, tmp_path / "model")
    expected = answers(student, noise())
    for model in (student.eval(), loaded(tmp_path / "model")):
        fused = fuse(model)
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        torch.testing.assert_close(answers(fused, noise()), expected, rtol=1e-4, atol=1e-4)


def test_b125_a_fake_quantised_student_learns() -> None:
    torch.manual_seed(0)
    conv, quantised = nn.Conv2d(3, 8, 3, padding=1), torch.ao.quantization.FakeQuantize()
    student = nn.Sequential(
        *(conv, quantised, nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 4)),
    )
    before = conv.weight.detach().clone()
    x, y = PREPROCESS(noise(6)), torch.arange(6) % 4
    distiller = Distiller(student, shaken(small_cnn(4, 8, 3)), truth() + Match(losses.kl))
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1)
    for _ in range(2):
        distiller(x, target=y).loss.backward()
        optimizer.step()
    assert not torch.equal(conv.weight, before)
    assert bool(conv.weight.isfinite().all())
    levels = np.unique(quantised(conv(x)).detach().numpy())
    assert len(levels) <= 256
