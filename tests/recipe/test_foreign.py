"""A folder of images and a teacher of another framework, without a line of Python."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from click.testing import CliRunner
from PIL import Image

from limbeck.cli import main
from limbeck.data import open_images
from limbeck.zoo import small_cnn

GREY = {"mean": [0.13], "std": [0.31]}
RGB = {"mean": [0.13] * 3, "std": [0.31] * 3}


def limbeck(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def write_folder(folder: Path, name: str, most: int) -> Path:
    """Some digits as a folder of PNG files for each class."""
    images = open_images(name)
    for i in torch.linspace(0, len(images) - 1, most).long().tolist():
        path = folder / images.classes[int(images.labels[i])] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.fetch(torch.tensor([i]))[0, 0].numpy()).save(path)
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders of digits, and a network that was trained on some and exported as ONNX."""
    pytest.importorskip("onnxruntime")
    root = tmp_path_factory.mktemp("foreign")
    train = write_folder(root / "train", "digits:train", 600)
    valid = write_folder(root / "valid", "digits:valid", 200)
    recipe = {
        "data": {"train": f"folder:{train}", "valid": f"folder:{valid}", "image_size": 28},
        "student": {
            "model": "limbeck.zoo:small_cnn",
            "options": {"width": 8, "channels": 3},
            **RGB,
        },
        "objective": [{"loss": "truth"}],
        "train": {
            "epochs": 6,
            "batch_size": 32,
            "optimizer": "AdamW",
            "lr": 0.01,
            "evaluate_every": 6,
        },
    }
    path = root / "teacher.yaml"
    path.write_text(yaml.safe_dump(recipe))
    limbeck("train", path, "--out", root / "teacher")
    limbeck("export", root / "teacher", "--out", root / "exported")
    return root


def recipe(world: Path, folder: Path, **teacher) -> Path:
    content = {
        "data": {
            "train": f"folder:{world / 'train'}",
            "valid": f"folder:{world / 'valid'}",
            "image_size": 28,
            "augment": {"crop": 2},
            "views": 2,
            "views_seed": 0,
        },
        "teacher": {
            "model": f"onnx:{next((world / 'exported').glob('*.onnx'))}",
            "output": "logits",
            "layout": "NCHW",
            **RGB,
            **teacher,
        },
        "student": {"model": "limbeck.zoo:mlp", "options": {"hidden": 16, "channels": 3}, **RGB},
        "objective": [{"loss": "truth", "weight": 0.5}, {"loss": "kl", "weight": 0.5}],
        "train": {"epochs": 3, "batch_size": 32, "evaluate_every": 3},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_an_onnx_teacher_labels_a_folder_and_a_student_is_trained_from_that(world, tmp_path):
    path, store = recipe(world, tmp_path), tmp_path / "store"
    told = json.loads(limbeck("store", "write", path, store, "--keep", "output=float32", "--json"))
    assert told["rows"] == 2 * 600
    assert told["about"]["teacher"]["teacher"]["kind"] == "onnx"
    limbeck("train", path, f"teacher=store:{store}", "--out", tmp_path / "stored")
    limbeck("train", path, "--out", tmp_path / "live")
    weights = [
        (tmp_path / name / "student.safetensors").read_bytes() for name in ("stored", "live")
    ]
    assert weights[0] == weights[1], "ONNX Runtime answers alike in any batch of this size"
    found = json.loads(limbeck("store", "verify", path, store, "--json"))
    assert found["output"]["max"] < 1e-4


def test_what_is_wrong_with_it_is_found_before_the_first_step(world, tmp_path):
    for wrong, message in {
        "teacher.output=probabilities": "says output: probabilities",
        "teacher.layout=NHWC": "NCHW",
        'teacher.classes=["1","0","2","3","4","5","6","7","8","9"]': "order",
        "teacher.model=onnx:nowhere.onnx": "nowhere.onnx",
    }.items():
        arguments = ["train", str(recipe(world, tmp_path)), wrong, "--out", str(tmp_path / "x")]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1, wrong
        assert message in result.output.splitlines()[-1], result.output
        assert not (tmp_path / "x" / "student.safetensors").exists()


def test_a_comparison_has_its_pseudo_labels_too(world, tmp_path):
    out = tmp_path / "compared"
    path = recipe(world, tmp_path, record=True)
    told = json.loads(limbeck("compare", path, "--out", out, "--seeds", "2", "--json"))
    assert [*told["arms"]] == ["labels only", "hard pseudo-labels", "distilled"]
    assert "onnx:" in (out / "report.html").read_text()
    assert "the teacher's top-1 is" in limbeck("check", path)


def test_small_networks_of_torch_files_are_teachers_by_one_line(tmp_path):
    torch.manual_seed(0)
    model = small_cnn(10, width=4, channels=1).eval()
    torch.export.save(torch.export.export(model, (torch.randn(4, 1, 28, 28),)), tmp_path / "t.pt2")
    content = {
        "data": {"train": "digits:train", "valid": "digits:valid"},
        "teacher": {
            "model": f"exported:{tmp_path / 't.pt2'}",
            "output": "logits",
            "layout": "NCHW",
            **GREY,
        },
        "student": {"model": "limbeck.zoo:mlp", "options": {"hidden": 8}, **GREY},
        "objective": [{"loss": "kl"}],
        "train": {"max_steps": 2},
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    result = CliRunner().invoke(main, ["train", str(path), "--out", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert "which is chance" in result.output, "fresh weights are found out"
