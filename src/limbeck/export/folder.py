"""The exported folder: what it holds was loaded again and compared with the live student."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.checkpoint import save_weights, sync_folder, write_text
from limbeck.errors import LimbeckError
from limbeck.export.code import Code
from limbeck.export.guide import guide
from limbeck.export.onnx import PACKAGES, check_onnx, write_onnx
from limbeck.export.student import TOLERANCE, live_logits, reloaded, same_answers
from limbeck.export.view import View
from limbeck.inputs import Preprocess
from limbeck.tasks import CLASSIFICATION, Task


def export(
    student: nn.Module,
    preprocess: Preprocess,
    classes: Sequence[str],
    size: tuple[int, int, int],
    out: Path,
    *,
    model: str,
    options: Mapping[str, Any] | None = None,
    onnx: bool = True,
    task: Task = CLASSIFICATION,
) -> dict[str, Any]:
    """Writes a student as a folder that needs no limbeck; what its `export.json` says.

    `student.safetensors` is loaded into a fresh network and `student.onnx` is run by onnxruntime,
    both on images of noise, and both must answer like the live student in eval mode: within 1e-4 of
    its largest logit, or of 1 where that is smaller. The student is only read.

    Args:
        student: in any mode and memory format, on any device; compiled or in DDP, too.
        preprocess: from images in 0..255 to what the student takes.
        classes: their names, in the order of the logits.
        size: channels, height and width of the images before `preprocess`.
        out: a folder that is new or empty; it appears whole or not at all.
        model: the network: torchvision:NAME, timm:NAME or package.module:factory.
        options: further keywords of the network.
        onnx: write ONNX too; its batch size is free.
        task: what the student is asked, for the guide.

    Returns:
        `model`, `options`, `parameters`, `tolerance`, `versions`, `sha256` by file name, and
        `differences`: the largest of a logit, by what answered.

    Raises:
        LimbeckError: a folder in use, another network than the student's, answers that differ.
    """
    view = View.of(preprocess, size)
    inputs = preprocess(view.noise(images=3))
    live = live_logits(student, inputs, len(classes))
    code = Code.of(model, len(classes), options or {})
    with staged(out) as folder, torch.random.fork_rng(devices=[]):
        save_weights(student, folder / "student.safetensors")
        fresh, logits = reloaded(folder / "student.safetensors", code, inputs)
        differences = {"safetensors": same_answers("student.safetensors", logits, live)}
        if onnx:
            write_onnx(fresh, inputs, folder / "student.onnx")
            differences |= check_onnx(folder / "student.onnx", inputs, logits)
        write_text(folder / "classes.txt", "\n".join(classes) + "\n")
        write_text(folder / "preprocess.json", as_json(view.document()))
        write_text(folder / "README.md", guide(code, view, onnx, task))
        if code.source is not None:
            write_text(folder / "network.py", code.source)
        document = {
            "model": model,
            "options": dict(options or {}),
            "parameters": sum(p.numel() for p in fresh.parameters()),
            "tolerance": TOLERANCE,
            "differences": differences,
            "versions": versions(code.library, onnx),
            "sha256": {path.name: sha256(path) for path in sorted(folder.iterdir())},
        }
        write_text(folder / "export.json", as_json(document))
    return document


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` that becomes `out` when the block ends well."""
    out = out.resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise LimbeckError(f"`out` must be a folder that is new or empty, got {out}; name another")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if out.exists():
            out.rmdir()
        temporary.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        raise LimbeckError(f"{out} could not be written: {error}; nothing is left of it") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def as_json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def versions(library: str, onnx: bool) -> dict[str, str]:
    """What wrote the folder."""
    packages = ["limbeck", "torch", "safetensors", *(PACKAGES if onnx else ())]
    packages += [library] if library in ("torchvision", "timm") else []
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
