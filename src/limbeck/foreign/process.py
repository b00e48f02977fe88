"""The other side of a worker: starts it, asks it, tells how it ended."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from numpy.typing import NDArray

from limbeck.errors import LimbeckError
from limbeck.foreign import worker

SECONDS = 5.0  # to end by itself
START = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
POLITE = {  # nothing takes all of a GPU's memory, or logs what is no fault
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}


class Process:
    """A worker, started once; it ends when this is closed, collected, or the interpreter ends.

    Args:
        name: how errors call it.
        model: what the worker opens: its kind, the model, the answer.
        python: the interpreter that has the framework.

    Raises:
        LimbeckError: one line with the worker's exception, or with the signal that it died of.
    """

    def __init__(self, name: str, model: Mapping[str, Any], python: str | Path | None) -> None:
        self.name, self.python = name, str(python or sys.executable)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self.child = subprocess.Popen(
                [self.python, "-c", START, worker.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                env=POLITE | os.environ,
            )
        except OSError as error:
            self.log.close()
            raise LimbeckError(f"{self.python} cannot be run: {error}") from error
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.requests, self.answers = self.child.stdin, self.child.stdout
        self.end = weakref.finalize(self, ended, self.child, self.log)
        try:
            self.told, _ = self.ask(model, {})
        except BaseException:
            self.close()
            raise

    def ask(
        self, head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Sends a message and waits for the answer."""
        if not self.end.alive:
            raise LimbeckError(f"{self.name} was closed; open it again")
        try:
            worker.send(self.requests, dict(head), arrays)
            answer, found = worker.receive(self.answers)
        except (OSError, EOFError) as error:
            raise LimbeckError(self.death()) from error
        except BaseException:  # an answer may be left in the pipe, and would be the next one's
            self.close()
            raise
        if "error" in answer:
            raise LimbeckError(self.fault(answer["error"], answer["missing"]))
        return answer, found

    def fault(self, error: str, missing: str | None) -> str:
        """An exception of the worker in one line."""
        if missing is None:
            return f"{self.name} failed in its process: {error}"
        return (
            f"{self.name} needs {missing}, which {self.python} does not have; install it there, or "
            "give python= an interpreter that has it"
        )

    def death(self) -> str:
        """How the worker ended, and its last words."""
        try:
            code = self.child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return f"{self.name}: its process closed its pipe and did not end"
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        words = last_words(self.log)
        memory = "; memory may have run out: give smaller batches" if how == "SIGKILL" else ""
        return f"{self.name}: its process died of {how}{words}{memory}; open it again"

    def close(self) -> None:
        """Ends the worker."""
        self.end()


def last_words(log: IO[bytes]) -> str:
    """The last line that a worker wrote, or nothing."""
    log.seek(0)
    lines = [line.strip() for line in log.read().decode(errors="replace").splitlines()]
    words = [line for line in lines if line]
    return f" ({words[-1]})" if words else ""


def ended(child: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    """Closes a worker's pipes and waits for it; one that stays is killed."""
    for pipe in (child.stdin, child.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    try:
        child.wait(SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    log.close()
