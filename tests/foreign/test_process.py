"""A teacher in a process of its own answers as here, and its end is told in one line."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.foreign.digits import GREY, NAMES, accuracy, answers, digits, stored, student_of

from limbeck.errors import LimbeckError
from limbeck.foreign import Spec, flax, process
from limbeck.signals import Batch, Signals

FACTORIES = Path(__file__).parent / "factories.py"
ROWS = Spec("logits", 2, "rows")


def opened(name, spec=ROWS, **settings):
    return flax(f"{FACTORIES}:{name}", spec, **settings)


def ask(teacher, x=((1.0, 2.0),)):
    return teacher(Batch(torch.tensor(x)), Signals(), ["output"])["output"]


def gone(pid):
    """Whether a process ended within some seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def linear(tmp_path, monkeypatch):
    """A linear model that was fitted to digits here, and the process that has it."""
    pixels, labels = digits()
    model = torch.nn.Linear(784, 10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(model(GREY(pixels).flatten(1)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = {"w": model.weight.detach().numpy(), "b": model.bias.detach().numpy()}
    np.savez(tmp_path / "weights.npz", **weights)
    monkeypatch.setenv("DIGITS_WEIGHTS", str(tmp_path / "weights.npz"))
    teacher = opened("linear", Spec("logits", NAMES, "rows"), inputs=GREY, version="1")
    yield model, teacher
    teacher.close()


def test_it_answers_as_it_would_here(linear):
    model, teacher = linear
    x = GREY(digits("valid")[0]).flatten(1)
    said = answers(teacher, 500, "mean")
    with torch.no_grad():
        assert torch.allclose(said["output"], model(x), atol=1e-4)
    assert torch.allclose(said["mean"], x.mean(-1, keepdim=True), atol=1e-5)
    with pytest.raises(LimbeckError, match=r"gives \['output', 'mean'\], got 'men'; did you"):
        answers(teacher, 5, "men")
    assert teacher.about()["teacher"]["version"] == "1"


def test_it_teaches_a_student_live_and_from_a_store(linear, tmp_path):
    taught = student_of(linear[1])
    assert accuracy(taught) > 0.75
    assert torch.allclose(student_of(stored(linear[1], tmp_path / "store")), taught, atol=1e-2)


def test_a_process_that_dies_is_told_with_its_last_words():
    teacher = opened("mortal")
    assert ask(teacher).tolist() == [[1, 2]]
    for _ in range(2):
        with pytest.raises(
            LimbeckError, match=r"died of SIGSEGV \(no such kernel\); open it again"
        ):
            ask(teacher)
    teacher.close()


def test_a_process_that_never_begins_is_told():
    with pytest.raises(LimbeckError, match="died of exit code 3; open it again"):
        opened("quits")
    with pytest.raises(LimbeckError, match=r"no/python cannot be run: .*No such file"):
        opened("faulty", python="no/python")
    with pytest.raises(LimbeckError, match=r"needs frameworks_of_tomorrow, which .* not have; "):
        opened("missing")
    with pytest.raises(LimbeckError, match="failed in its process: KeyError: 'nothing'"):
        opened("nothing")


def test_an_exception_is_one_line_and_the_process_goes_on():
    teacher = opened("faulty")
    with pytest.raises(
        LimbeckError, match=r"failed in its process: FloatingPointError: not finite$"
    ):
        ask(teacher, ((float("nan"), 1.0),))
    assert ask(teacher).tolist() == [[1, 2]]
    teacher.close()
    with pytest.raises(LimbeckError, match="was closed; open it again"):
        ask(teacher)
    teacher.close()


def test_it_ends_when_it_is_closed_or_forgotten():
    for end in (lambda teacher: teacher.close(), lambda teacher: None):
        teacher = opened("faulty")
        pid = teacher.runner.process.child.pid
        end(teacher)
        del teacher
        gc.collect()
        assert gone(pid)


def test_one_that_does_not_end_by_itself_is_killed(monkeypatch):
    monkeypatch.setattr(process, "SECONDS", 0.3)
    teacher = opened("faulty")
    pid = teacher.runner.process.child.pid
    os.kill(pid, signal.SIGSTOP)
    teacher.close()
    assert gone(pid)


def test_an_answer_that_nobody_waited_for_is_not_the_next_one(monkeypatch):
    def interrupted(stream):
        raise KeyboardInterrupt

    teacher = opened("faulty")
    with monkeypatch.context() as patch:
        patch.setattr(process.worker, "receive", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(teacher)
    with pytest.raises(LimbeckError, match="was closed; open it again"):
        ask(teacher, ((3.0, 4.0),))


def test_it_ends_when_its_parent_is_killed():
    script = (
        "import os, signal; from limbeck.foreign import Spec, flax;"
        f"t = flax({f'{FACTORIES}:faulty'!r}, Spec('logits', 2, 'rows'));"
        "print(t.runner.process.child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert gone(int(done.stdout))


def test_code_cannot_say_which_weights_it_has():
    teacher = opened("faulty")
    with pytest.raises(LimbeckError, match="give version= a word that you change with them"):
        teacher.about()
    teacher.close()
