"""Files that are whole or not there: weights, training state, text."""

import os
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from limbeck.errors import LimbeckError

CONTAINERS = ("state_dict", "model", "student", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well: write, fsync, rename.

    Raises:
        LimbeckError: the file could not be written; what `path` held before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise LimbeckError(
            f"{path} could not be written: {error}; what was there before is whole"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder durable, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """A text file, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_state(state: Mapping[str, Any], path: Path) -> None:
    """Tensors, numbers, text, lists and mappings, readable with `weights_only`."""
    with atomic(path) as temporary:
        torch.save(dict(state), temporary)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote.

    Raises:
        LimbeckError: a file that is missing, cut short, or holds more than plain data.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).partition("\n")[0]
        raise LimbeckError(f"{path} must be a whole training state, but {reason}") from error


def save_weights(model: nn.Module, path: Path) -> None:
    """The plain model's state as safetensors; `load_state_dict(strict=True)` takes it.

    Names are those of the plain model, whatever wraps it; tied tensors are written out for each.
    """
    tensors = {
        plain_name(name): value.detach().cpu().contiguous().clone()
        for name, value in model.state_dict().items()
    }
    with atomic(path) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"})


def plain_name(name: str) -> str:
    """A tensor's name without the prefixes of DDP and torch.compile.

    >>> plain_name("module._orig_mod.fc.weight")
    'fc.weight'
    """
    while name.startswith(PREFIXES):
        name = name.partition(".")[2]
    return name.replace("._orig_mod.", ".")


def load_weights(model: nn.Module, path: Path, *, unsafe_pickle: bool = False) -> None:
    """Loads a safetensors or torch file into a model: every tensor, or none.

    Args:
        model: where the weights go.
        path: `.safetensors`, or a torch file with a state dict, alone or under `state_dict`,
            `model`, `student` or `model_state_dict`.
        unsafe_pickle: run the code that a pickled file contains.

    Raises:
        LimbeckError: a file that is missing, damaged, pickled, or of another model; says what fits.
    """
    state = {plain_name(k): v for k, v in read_weights(path, unsafe_pickle).items()}
    mine = {plain_name(k): (k, v) for k, v in model.state_dict().items()}
    fitting = [k for k, v in state.items() if k in mine and mine[k][1].shape == v.shape]
    if len(fitting) != len(mine) or len(state) != len(mine):
        raise LimbeckError(f"{path} must fit the model, but {misfit(state, mine, len(fitting))}")
    model.load_state_dict({mine[k][0]: v for k, v in state.items()})


def misfit(
    state: Mapping[str, Tensor], mine: Mapping[str, tuple[str, Tensor]], fitting: int
) -> str:
    """What of a checkpoint fits a model, and what does not."""
    shapes = [
        f"{k} is {tuple(v.shape)} in the file and {tuple(mine[k][1].shape)} in the model"
        for k, v in state.items()
        if k in mine and mine[k][1].shape != v.shape
    ]
    missing = sorted(mine.keys() - state.keys())
    unexpected = sorted(state.keys() - mine.keys())
    reasons = shapes[:3] + [f"and {len(shapes) - 3} more shapes differ"] * (len(shapes) > 3)
    reasons += [f"missing from the file: {few(missing)}"] * bool(missing)
    reasons += [f"not in the model: {few(unexpected)}"] * bool(unexpected)
    return f"{fitting} of {len(mine)} tensors fit; " + "; ".join(reasons)


def few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_weights(path: Path, unsafe_pickle: bool = False) -> Mapping[str, Tensor]:
    """The named tensors of a checkpoint file."""
    if not path.is_file():
        raise LimbeckError(f"a checkpoint must be a file, got {path}")
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path)
        except SafetensorError as error:
            raise LimbeckError(f"{path} must be a whole safetensors file: {error}") from error
    return state_dict_in(unpickled(path, unsafe_pickle), path)


def unpickled(path: Path, unsafe_pickle: bool) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except pickle.UnpicklingError as error:
        raise LimbeckError(
            f"{path} is a pickle that can run code; load it with unsafe_pickle: true if you trust "
            "it, or save its state dict as safetensors"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = str(error).partition("\n")[0]
        raise LimbeckError(f"{path} must be a whole torch file: {reason}") from error


def state_dict_in(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The state dict in what a file holds: a module's, or under a usual name."""
    if isinstance(content, nn.Module):
        return content.state_dict()
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if isinstance(content, Mapping) and all(isinstance(v, Tensor) for v in content.values()):
        return content
    raise LimbeckError(f"{path} must hold named tensors, or have them under one of {CONTAINERS}")
