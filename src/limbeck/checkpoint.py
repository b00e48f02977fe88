"""Files that are whole or not there: weights, training state, text."""

import logging
import os
import pickle
import re
import secrets
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.errors import LimbeckError

log = logging.getLogger("limbeck")
CONTAINERS = ("state_dict", "model", "student", "model_state_dict", "average", "distiller")


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well: write, fsync, rename.

    Raises:
        LimbeckError: the file could not be written; what `path` held before is untouched.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise LimbeckError(
            f"{path} could not be written: {reason(error)}; what was there before is whole"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def reason(error: BaseException) -> str:
    """Why a write failed: the system's word, which libraries hide behind errors of their own.

    >>> reason(RuntimeError("I/O error: No space left on device (os error 28)"))
    'no space left on device'
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return os.strerror(cause.errno).lower()
        cause = cause.__context__
    number = re.search(r"os error (\d+)", str(error))
    return os.strerror(int(number[1])).lower() if number else first_line(error)


def first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


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
    """Tensors, numbers, text, lists and mappings, whole or not at all.

    Raises:
        LimbeckError: a full disk, or an object that `load_state` would refuse.
    """
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(temporary)
        if foreign:
            raise LimbeckError(f"{path} must hold plain data, got {foreign[0]}")


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, every byte of it checked.

    Raises:
        LimbeckError: a file that is missing, cut short, altered, or holds more than plain data.
    """
    if not path.is_file():
        raise LimbeckError(f"a training state must be a file, got {path}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise LimbeckError(f"{path} must be a whole training state: {gave(error)}") from error
    raise LimbeckError(f"{path} must be a whole training state: {damaged} in it is damaged")


def gave(error: Exception) -> str:
    return f"reading it gave {type(error).__name__} {first_line(error)}".strip()


def plain(model: nn.Module) -> nn.Module:
    """The model inside DDP and `torch.compile`."""
    compiled = model._modules.get("_orig_mod")
    inside = model.module if isinstance(model, DistributedDataParallel) else compiled
    return model if inside is None else plain(inside)


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """A plain model's state, under the names that it has where no part is compiled."""
    state = {without_compile(name): value for name, value in model.state_dict().items()}
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise LimbeckError(
                f"{name} must be a tensor to be kept as weights, got {type(value).__name__}"
            )
        if hasattr(value, "full_tensor"):
            raise LimbeckError(
                f"{name} is in parts on several ranks, which one rank cannot put together; call "
                "full_tensor() of every tensor on all ranks, then save or load on the first"
            )
    return state


def without_compile(name: str) -> str:
    """The name that a tensor has before `torch.compile`.

    >>> without_compile("layer1._orig_mod.0.weight")
    'layer1.0.weight'
    """
    return name.replace("_orig_mod.", "")


def save_weights(model: nn.Module, path: Path) -> None:
    """The plain model's state as safetensors; `load_state_dict(strict=True)` takes it.

    Names are those of the plain model, whatever wraps it; tied tensors are written out for each.
    """
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, value in tensors_of(plain(model)).items()
    }
    content = safetensors.torch.save(tensors, metadata={"format": "pt"})
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def load_weights(
    model: nn.Module, path: Path, *, unsafe_pickle: bool = False, strict: bool = True
) -> None:
    """Loads a safetensors or torch file into a model: every tensor, or none.

    Prefixes of DDP and `torch.compile` do not count, on either side; of a training state it is the
    student that is loaded.

    Args:
        model: where the weights go.
        path: `.safetensors`, or a torch file with a state dict, alone or under `state_dict`,
            `model`, `student` or `model_state_dict`.
        unsafe_pickle: run the code that a pickled file contains.
        strict: refuse tensors that only one side has; else they are logged. Shapes always agree.

    Raises:
        LimbeckError: a file that is missing, damaged, pickled, or of another model; says what fits.
    """
    target = plain(model)
    mine = tensors_of(target)
    state = named_like(read_weights(path, unsafe_pickle), mine)
    fitting = {k: v for k, v in state.items() if k in mine and mine[k].shape == v.shape}
    missing = absent(target, state)
    shapes_agree = len(fitting) == len(state.keys() & mine.keys())
    complete = not missing and not state.keys() - mine.keys()
    if not (fitting and shapes_agree and (complete or not strict)):
        raise LimbeckError(f"{path} must fit the model: {misfit(state, mine, missing)}")
    target.load_state_dict(
        {
            name: fitting[k]
            for name, k in zip(target.state_dict(), mine, strict=True)
            if k in fitting
        },
        strict=False,
    )
    log.info("%s: %s", path, misfit(state, mine, missing))


def named_like(state: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under the plain model's names; of a distiller's, the student's."""

    def plain_name(name: str) -> str:
        short = without_compile(name)
        while short not in mine and short.startswith("module."):
            short = short.removeprefix("module.")
        return name if short in state else short

    named = {plain_name(name): value for name, value in state.items()}
    if any(name.startswith("student.") for name in mine):
        return named
    student = [name for name in named if name.startswith("student.")]
    return {plain_name(n.removeprefix("student.")): named[n] for n in student} or named


def absent(model: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """The tensors of a model that a file lacks, under their own name and every tied one."""
    tied = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    owner = {without_compile(name): id(tensor) for name, tensor in tied}
    given = {owner[name] for name in state if name in owner}
    lacking = (name for name in tensors_of(model) if name not in state)
    return [name for name in lacking if owner.get(name) not in given]


def misfit(state: Mapping[str, Tensor], mine: Mapping[str, Tensor], missing: list[str]) -> str:
    """What of a checkpoint fits a model, and what does not."""
    shapes = [
        f"{k} is {tuple(state[k].shape)} in the file and {tuple(v.shape)} in the model"
        for k, v in mine.items()
        if k in state and state[k].shape != v.shape
    ]
    unexpected = [name for name in state if name not in mine]
    fitting = len(mine) - len(shapes) - len(missing)
    words = [f"{fitting} of {len(mine)} tensors fit", *shapes[:3]]
    words += [f"{len(shapes) - 3} more shapes differ"] if len(shapes) > 3 else []
    words += [f"missing: {few(missing)}"] if missing else []
    words += [f"unexpected: {few(unexpected)}"] if unexpected else []
    return "; ".join(words)


def few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def read_weights(path: Path, unsafe_pickle: bool = False) -> Mapping[str, Tensor]:
    """The named tensors of a checkpoint file."""
    if path.suffix != ".safetensors":
        return state_dict_in(unpickled(path, unsafe_pickle), path)
    check_file(path)
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise LimbeckError(
            f"{path} must be a whole safetensors file: {first_line(error)}"
        ) from error


def read_module(path: Path, *, unsafe_pickle: bool = False) -> nn.Module:
    """The whole network that a pickled file holds.

    Raises:
        LimbeckError: a file that is refused without `unsafe_pickle`, or that holds weights alone.
    """
    content = None if path.suffix == ".safetensors" else unpickled(path, unsafe_pickle)
    if isinstance(content, nn.Module):
        return content
    raise LimbeckError(f"{path} holds no network; build one, then load_weights into it")


def check_file(path: Path) -> None:
    if not path.is_file():
        raise LimbeckError(f"a checkpoint must be a file, got {path}")


def unpickled(path: Path, unsafe_pickle: bool) -> Any:
    """What a torch file holds; anything but plain data only where `unsafe_pickle` allows it."""
    check_file(path)
    try:
        with warnings.catch_warnings(action="ignore"):
            return torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and not unsafe_pickle:
            raise LimbeckError(
                f"{path} is a pickle that can run code; load it with unsafe_pickle: true if you "
                "trust it, or save its state dict as safetensors"
            ) from error
        raise LimbeckError(f"{path} must be a whole torch file: {gave(error)}") from error


def state_dict_in(content: Any, path: Path) -> Mapping[str, Tensor]:
    """The state dict in what a file holds: a module's, or under a usual name."""
    if isinstance(content, nn.Module):
        return content.state_dict()
    if isinstance(content, Mapping):
        if content and all(isinstance(value, Tensor) for value in content.values()):
            return content
        for name in CONTAINERS:
            if isinstance(content.get(name), Mapping | nn.Module):
                return state_dict_in(content[name], path)
    raise LimbeckError(f"{path} must hold named tensors, or have them under one of {CONTAINERS}")
