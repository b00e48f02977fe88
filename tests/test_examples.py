"""The examples run as they are, and the same distiller makes the same student in every loop."""

import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

EXAMPLES = Path(__file__).parent.parent / "examples"
HELPERS = Path(__file__).parent / "frameworks"
FRAMEWORKS = "LIMBECK_FRAMEWORKS_PYTHON"
LOOPS = ("lightning_loop", "hf_trainer", "accelerate_loop", "fabric_loop")

needs_frameworks = pytest.mark.skipif(
    FRAMEWORKS not in os.environ,
    reason=f"{FRAMEWORKS} must name a Python that has the frameworks; `make test-all` does",
)


class Run:
    """What a helper saved, what was printed, and the folder where it ran."""

    def __init__(self, folder: Path, python: list[str], helper: str, *args: str) -> None:
        command = [*python, str(HELPERS / helper), *args, "result.pt"]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.folder, self.printed = folder, done.stdout
        self.result: dict[str, Any] = torch.load(folder / "result.pt")

    def accuracy(self, name: str) -> float:
        return accuracy(self.printed, name)


def accuracy(printed: str, name: str) -> float:
    (line,) = [x for x in printed.splitlines() if x.startswith(f"{name}: ")]
    return float(line.removeprefix(f"{name}: ").split()[0].rstrip("%"))


def example(name: str) -> str:
    return str(EXAMPLES / f"{name}.py")


def frameworks() -> list[str]:
    """The interpreter with the frameworks; they may warn as they like."""
    return [str(Path(os.environ[FRAMEWORKS]).absolute())]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """An example's run under watch in the frameworks' interpreter, once each."""

    @functools.cache
    def run(name: str) -> Run:
        return Run(tmp_path_factory.mktemp(name), frameworks(), "watched.py", example(name))

    return run


def saved(name: str, folder: Path) -> dict[str, Tensor]:
    """The tensors that a loop left as its model."""
    if name == "lightning_loop":
        (path,) = folder.rglob("*.ckpt")
        state = torch.load(path, weights_only=True)["state_dict"]
        return {key.removeprefix("distiller."): value for key, value in state.items()}
    if name == "fabric_loop":
        return torch.load(folder / "fabric.pt", weights_only=True)
    (path,) = folder.rglob("model.safetensors")
    return load_file(path)


def check_learning(run: Run) -> None:
    losses = run.result["losses"]
    assert sum(losses[-20:]) < 0.3 * sum(losses[:20])
    assert run.accuracy("teacher") > 90
    assert run.accuracy("student") > 84


def check_teacher(run: Run) -> None:
    before, after = run.result["before"], run.result["after"]
    assert any("running_mean" in key for key in before)
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert run.result["modes"] == {False}


@pytest.mark.parametrize("name", ["plain_loop", "own_model"])
def test_an_example_learns_and_leaves_its_teacher_alone(name, tmp_path):
    run = Run(tmp_path, [sys.executable, "-W", "error"], "watched.py", example(name))
    check_learning(run)
    check_teacher(run)


def test_students_that_teach_each_other_learn(tmp_path):
    command = [sys.executable, "-W", "error", example("mutual")]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("cnn", "mlp"):
        for how in ("alone", "together"):
            assert accuracy(done.stdout, f"{name} {how}") > 88
    assert "'mlp/kl': '0." in done.stdout


@needs_frameworks
@pytest.mark.slow
@pytest.mark.parametrize("name", LOOPS)
class TestFramework:
    def test_it_learns(self, watched, name):
        check_learning(watched(name))

    def test_its_teacher_is_left_alone(self, watched, name):
        check_teacher(watched(name))

    def test_its_checkpoint_holds_student_and_projector_alone(self, watched, name):
        run = watched(name)
        state, kept = run.result["state"], saved(name, run.folder)
        assert {key.split(".")[0] for key in kept} == {"student", "objective"}
        assert kept.keys() == state.keys()
        assert all(torch.equal(value, state[key]) for key, value in kept.items())

    def test_its_student_is_that_of_the_plain_loop(self, watched, name):
        ours, theirs = watched("plain_loop").result, watched(name).result
        torch.testing.assert_close(theirs["state"], ours["state"], rtol=0, atol=1e-6)
        torch.testing.assert_close(theirs["losses"], ours["losses"], rtol=0, atol=1e-5)


@needs_frameworks
@pytest.mark.slow
def test_the_hugging_face_trainer_loads_what_it_saved(tmp_path):
    run = Run(tmp_path, frameworks(), "resumed.py", example("hf_trainer"))
    trained, loaded = run.result["trained"], run.result["loaded"]
    assert all(value.any() and torch.equal(loaded[key], value) for key, value in trained.items())


@needs_frameworks
@pytest.mark.slow
def test_the_hugging_face_trainer_averages_over_accumulated_batches(tmp_path):
    run = Run(tmp_path, frameworks(), "accumulated.py")
    torch.testing.assert_close(run.result["halves"], run.result["whole"])


@needs_frameworks
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "backend"),
    [("flax_student", "jax"), ("keras_student", "tensorflow"), ("keras_student", "jax")],
)
def test_a_student_of_another_framework_gains_from_stored_answers(name, backend, tmp_path):
    env = {"KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    command = [*frameworks(), example(name)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **env}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert accuracy(done.stdout, "teacher") > 90
    assert accuracy(done.stdout, "distilled") > accuracy(done.stdout, "labels alone") + 3
