"""A run folder: one training's recipe, metrics, checkpoints and student."""

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import nn

from limbeck.checkpoint import load_state, save_state, save_weights, write_text
from limbeck.errors import LimbeckError
from limbeck.trackers import Lines, TensorBoard, Tracker

FILES = (
    "checkpoints/*",
    "metrics.jsonl",
    "*.safetensors",
    "evaluation.json",
    "chain.json",
    "report.html",
)
FOLDERS = ("teacher", "students", "stages", "tensorboard")


class Run:
    """The folder of one training; only the first rank writes.

    Raises:
        LimbeckError: a folder that holds a run already, or that another process is writing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        recipe: str = "",
        writes: bool = True,
        resume: bool = False,
        overwrite: bool = False,
        tensorboard: bool = False,
    ) -> None:
        self.folder, self.writes, self.tensorboard = folder, writes, tensorboard
        self.trackers: list[Tracker] = []
        self.lock: IO[str] | None = None
        if not writes:
            return
        if folder.is_dir() and any(folder.iterdir()) and not (resume or overwrite):
            raise LimbeckError(
                f"{folder} must be a new folder, but it holds files; go on with --resume, "
                "start again with --overwrite, or name another"
            )
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.lock = locked(folder)
        if not resume:
            self.clear()
            write_text(folder / "recipe.yaml", recipe)
            write_text(folder / "environment.json", json.dumps(environment(), indent=1) + "\n")

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.pt"

    @property
    def student(self) -> Path:
        return self.folder / "student.safetensors"

    def of(self, student: str) -> Path:
        """The file of one of several students."""
        return self.folder / "students" / f"{student}.safetensors"

    def clear(self) -> None:
        """Removes what an earlier run left."""
        for name in FILES:
            for path in self.folder.glob(name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name in FOLDERS:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def open(self, step: int) -> None:
        """Starts the metrics after `step`."""
        if self.writes:
            self.trackers = [Lines(self.folder / "metrics.jsonl", step)]
            if self.tensorboard:
                self.trackers.append(TensorBoard(self.folder / "tensorboard"))

    def write(self, record: dict[str, Any]) -> None:
        for tracker in self.trackers:
            tracker.write(record)

    def save(
        self,
        state: dict[str, Any],
        student: nn.Module,
        peers: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """The plain student and the training's state, each whole or not at all.

        Where students taught one another, `peers` are all of them, each in a file of its own. The
        state comes last: a run that is stopped in between makes everything anew.
        """
        save_weights(student, self.student)
        for name, peer in (peers or {}).items():
            self.of(name).parent.mkdir(exist_ok=True)
            save_weights(peer, self.of(name))
        save_state(state, self.last)

    def shards(self, step: int) -> Path:
        """The folder of what the ranks of a sharded training save after a step."""
        return self.folder / "checkpoints" / f"shards-{step}"

    def drop_shards(self, step: int) -> None:
        """Removes what the ranks saved at other steps."""
        for path in (self.folder / "checkpoints").glob("*shards-*"):
            if path != self.shards(step):
                shutil.rmtree(path, ignore_errors=True)

    def save_best(self, student: nn.Module) -> None:
        save_weights(student, self.folder / "checkpoints" / "best.safetensors")

    def load(self) -> dict[str, Any]:
        """The state that was saved last."""
        if not self.last.exists():
            raise LimbeckError(f"{self.folder} has no checkpoint to resume from; start it anew")
        return load_state(self.last)

    def finish(self, step: int, seconds: float, images: int) -> None:
        """The last line of the metrics."""
        self.write({"kind": "done", "step": step, "seconds": seconds, "images": images})
        self.close()

    def close(self) -> None:
        for tracker in self.trackers:
            tracker.close()
        if self.lock is not None:
            self.lock.close()
            self.lock = None


def locked(folder: Path) -> IO[str]:
    """An open lock file that names this process, held until it is closed or the process ends."""
    path = folder / ".lock"
    file = path.open("a+")
    try:
        take(file)
    except OSError as error:
        file.seek(0)
        raise LimbeckError(
            f"{folder} is in use by process {file.read().strip() or 'unknown'}; name another folder"
        ) from error
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def take(file: IO[str]) -> None:
    """An exclusive lock, at once or OSError."""
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def environment() -> dict[str, Any]:
    """What the numbers of a run depend on besides its recipe."""
    from limbeck import __version__

    return {
        "limbeck": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "launch": launch(),
    }


def launch() -> str | None:
    """What one call of torchrun has in common over its restarts; None outside of torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    return f"{name} {os.getppid()}" if name == "none" else name


def restarted(folder: Path) -> bool:
    """Whether torchrun has started this process anew, after the same call began the folder's run.

    A node that joins or leaves restarts all without being counted as a failure.
    """
    path = folder / "environment.json"
    if launch() is None or not path.is_file():
        return False
    return json.loads(path.read_text(encoding="utf-8")).get("launch") == launch()
