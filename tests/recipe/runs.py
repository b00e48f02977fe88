"""Trainings that are counted and stopped where a test wants it, and what they left."""

import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.evaluate import speed
from limbeck.recipe import Recipe, run
from limbeck.train.loop import Trainer
from limbeck.train.watch import held

FORKS = multiprocessing.get_context("forkserver")  # what is loaded once serves all of its processes
SECONDS = 300  # after which a process hangs
FORKS.set_forkserver_preload([__name__, "tests.recipe.preloaded"])


def interrupt() -> None:
    raise KeyboardInterrupt


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Steps:
    """Counts optimizer steps, and ends a training before one of them if asked to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, end: Callable[[], None] = interrupt
    ) -> None:
        self.taken, self.stop = 0, -1
        update = Trainer.update

        def counted(trainer: Trainer, batch: Any) -> Any:
            if self.taken == self.stop:
                end()
            self.taken += 1
            return update(trainer, batch)

        monkeypatch.setattr(Trainer, "update", counted)


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what a clock said."""
    return {
        name: timeless(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if name not in ("latency_ms", "throughput")
    }


# ---- in processes of their own


def killed(recipe: Recipe, folder: Path, before: int) -> None:
    """Trains until SIGKILL ends the process, before the optimizer step of that number."""
    log = folder.with_suffix(".log")
    process = FORKS.Process(target=until_killed, args=(log, recipe, folder, before), daemon=True)
    process.start()
    process.join(SECONDS)
    assert process.exitcode == -signal.SIGKILL, said(log)


def until_killed(log: Path, recipe: Recipe, folder: Path, before: int) -> None:
    Steps(pytest.MonkeyPatch(), kill).stop = before
    alone(log, recipe, folder)


def ranked(recipe: Recipe, folder: Path, world: int = 2) -> list[dict[str, Tensor]]:
    """Trains on several ranks, as torchrun would; what each then holds of the parameters."""
    port = free_port()
    found = [folder.with_suffix(f".{rank}") for rank in range(world)]
    processes = [
        FORKS.Process(target=as_rank, args=(path, recipe, folder, rank, world, port), daemon=True)
        for rank, path in enumerate(found)
    ]
    for process in processes:
        process.start()
    for process, path in zip(processes, found, strict=True):
        process.join(SECONDS)
        assert process.exitcode == 0, said(path)
    return [torch.load(path, weights_only=True) for path in found]


def as_rank(path: Path, recipe: Recipe, folder: Path, rank: int, world: int, port: int) -> None:
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
    os.environ.update({key: str(value) for key, value in places.items()}, MASTER_ADDR="127.0.0.1")
    trainers, fit = list[Trainer](), Trainer.fit

    def kept(trainer: Trainer) -> None:
        trainers.append(trainer)
        fit(trainer)

    Trainer.fit = kept
    alone(path, recipe, folder)
    parameters = trainers[-1].distiller.named_parameters()
    torch.save({name: held(each) for name, each in parameters}, path)


def alone(log: Path, recipe: Recipe, folder: Path) -> None:
    """Trains in this process, which is there for nothing else; what goes wrong is logged."""
    speed.SECONDS = 0.0
    try:
        run(recipe, folder)
    except BaseException:
        log.write_text(traceback.format_exc())
        sys.exit(1)


def said(log: Path) -> str:
    return log.read_text() if log.exists() else "neither an error nor an end"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
