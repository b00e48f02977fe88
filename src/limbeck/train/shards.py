"""Training states of which every rank writes a part, for any number of ranks to read."""

import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.checkpoint import first_line, sync_folder
from limbeck.errors import LimbeckError
from limbeck.train.ranks import Ranks

BLOCK = 1 << 20
UNSHARED = "every rank must see the run folder: put it where all nodes share their files"


def tensors_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What is large: a model's tensors, and the optimizer's that are as large as its weights."""
    state = model.state_dict().items()
    model_state = {f"model.{name}": value for name, value in state if isinstance(value, Tensor)}
    moments = {
        f"optimizer.{i}.{key}": value
        for i, own in optimizer.state_dict()["state"].items()
        for key, value in own.items()
        if is_large(value)
    }
    return model_state | moments


def is_large(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def small_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state with None for what `tensors_of` holds."""
    whole = optimizer.state_dict()
    state = {
        i: {key: None if is_large(value) else value for key, value in own.items()}
        for i, own in whole["state"].items()
    }
    return whole | {"state": state}


def restore(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    small: Mapping[str, Any],
    folder: Path,
    sums: Mapping[str, int],
    ranks: Ranks,
) -> None:
    """Gives model and optimizer what they were saved with, each rank its part."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        i: {k: torch.zeros_like(weights[i].detach()) if v is None else v for k, v in own.items()}
        for i, own in small["state"].items()
    }
    places = {(i, k): f"optimizer.{i}.{k}" for i, own in state.items() for k in own}
    moments = {name: state[i][k] for (i, k), name in places.items() if small["state"][i][k] is None}
    own = dict(model.state_dict())
    tensors = {f"model.{name}": value for name, value in own.items() if isinstance(value, Tensor)}
    load(tensors | moments, folder, sums, ranks)
    model.load_state_dict(own)
    optimizer.load_state_dict({**small, "state": state})


def save(tensors: Mapping[str, Tensor], folder: Path, ranks: Ranks) -> dict[str, int]:
    """Writes a folder of safetensors, whole or not at all; the checksum of each file.

    Called on all ranks, and each writes what it holds. The folder appears under its name when all
    of them are done.

    Raises:
        LimbeckError: a full disk, a folder that not all ranks see.
    """
    from torch.distributed import checkpoint

    temporary = folder.with_name(f".{folder.name}.tmp")
    if ranks.first:
        for left in (temporary, folder):
            shutil.rmtree(left, ignore_errors=True)
    ranks.wait()
    writer = checkpoint.HuggingFaceStorageWriter(str(temporary), save_distributed=True)
    try:
        with alone_or_not():
            checkpoint.save(dict(tensors), storage_writer=writer, no_dist=ranks.world == 1)
    except checkpoint.CheckpointException as error:
        raise LimbeckError(
            f"{folder} could not be written: {cause(error)}; what was there before is whole"
        ) from error
    names = sorted(path.name for path in temporary.iterdir()) if temporary.is_dir() else []
    if any(seen != names for seen in ranks.each(names)):
        raise LimbeckError(UNSHARED)
    sums = checksums(temporary, names, ranks)
    if ranks.first:
        temporary.rename(folder)
        sync_folder(folder.parent)
    ranks.wait()
    return sums


def load(tensors: dict[str, Tensor], folder: Path, sums: Mapping[str, int], ranks: Ranks) -> None:
    """Fills tensors with what any number of ranks saved, every byte of it checked.

    Raises:
        LimbeckError: files that are missing, cut short or altered, or of another training.
    """
    from torch.distributed import checkpoint

    missing = [name for name in sums if not (folder / name).is_file()]
    if ranks.any(len(missing)):
        raise LimbeckError(f"{folder} must hold {sorted(sums)}, but lacks {missing}; {UNSHARED}")
    found = checksums(folder, sorted(sums), ranks)
    damaged = [name for name in sums if found[name] != sums[name]]
    if damaged:
        raise LimbeckError(f"{folder} must be a whole training state: {damaged[0]} is damaged")
    reader = checkpoint.HuggingFaceStorageReader(str(folder))
    try:
        with alone_or_not():
            checkpoint.load(tensors, storage_reader=reader, no_dist=ranks.world == 1)
    except checkpoint.CheckpointException as error:
        raise LimbeckError(f"{folder} must be of this training: {cause(error)}") from error


def alone_or_not() -> AbstractContextManager[None]:
    """Without PyTorch's remark that a single process saves or loads alone, as is meant."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)  # pyrefly: ignore


def cause(error: BaseException) -> str:
    """What the first rank that failed said."""
    failures = getattr(error, "failures", {})
    return first_line(next(iter(failures.values()))[0]) if failures else first_line(error)


def checksums(folder: Path, names: list[str], ranks: Ranks) -> dict[str, int]:
    """The CRC-32 of each file, of which every rank reads its share."""
    mine = {name: crc(folder / name) for name in names[ranks.rank :: ranks.world]}
    return {name: value for found in ranks.each(mine) for name, value in found.items()}


def crc(path: Path) -> int:
    value = 0
    for block in read(path):
        value = zlib.crc32(block, value)
    return value


def read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block
