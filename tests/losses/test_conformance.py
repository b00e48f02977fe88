"""Every loss on every backend is close to float64, and torch's need no other framework."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.losses.conformance import BACKENDS, SUBJECTS, WIDER, Limit, errors
from tests.test_examples import frameworks, needs_frameworks

from limbeck import losses

each = pytest.mark.parametrize
ROOT = Path(__file__).parents[2]
RESULT = ROOT / "benchmarks" / "results" / "conformance.json"
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "JAX_PLATFORMS": "cpu",
}


def check(name: str, value: float, gradient: float | None) -> None:
    limit = WIDER.get(name, Limit())
    assert value <= limit.value
    assert gradient is None or gradient <= limit.gradient


@each("backend", ["torch", "numpy"])
@each("name", SUBJECTS)
def test_a_loss_is_close_to_float64(name: str, backend: str) -> None:
    check(name, *errors(name, backend))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch._prims_common.check:FutureWarning")  # torch's compiler
@each("name", SUBJECTS)
def test_a_compiled_loss_is_close_to_float64(name: str) -> None:
    check(name, *errors(name, "torch.compile"))


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The errors of all losses on a backend, from a process of its own."""

    @functools.cache
    def run(backend: str) -> dict[str, tuple[float, float]]:
        path = tmp_path_factory.mktemp(backend) / "result.json"
        script = Path(__file__).with_name("conformance.py")
        command = [*frameworks(), str(script), backend, str(path)]
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(path.read_text())["backends"][backend]["errors"]

    return run


@needs_frameworks
@pytest.mark.slow
@each("backend", ["jax", "tensorflow"])
@each("name", SUBJECTS)
def test_a_loss_of_another_framework_is_close_to_float64(
    name: str, backend: str, measured: Any
) -> None:
    check(name, *measured(backend)[name])


@pytest.mark.slow
def test_the_measured_table_has_every_loss_on_every_backend() -> None:
    measured = json.loads(RESULT.read_text())["backends"]
    assert measured.keys() == BACKENDS.keys()
    assert all(backend["errors"].keys() == SUBJECTS.keys() for backend in measured.values())


def test_no_loss_is_left_out() -> None:
    """Apart from those for torch tensors alone."""
    functions = {getattr(losses, name) for name in losses.__all__}
    rest = {f.__code__ for f in functions if f.__module__ != "limbeck.losses.large"}
    rest -= {losses.classes.__code__, losses.standardised.__code__}  # which make losses
    sys.setprofile(lambda frame, *_: rest.discard(frame.f_code))
    for loss, draw, *_ in SUBJECTS.values():
        loss(*draw(0, 3))
    sys.setprofile(None)
    assert {code.co_name for code in rest} == set()


def test_losses_of_torch_import_neither_jax_nor_tensorflow(tmp_path: Path) -> None:
    others = ("jax", "tensorflow", "keras")
    for name in others:  # where they are not installed, an import would not show otherwise
        (tmp_path / f"{name}.py").touch()
    code = (
        "import sys, limbeck; from tests.losses.conformance import SUBJECTS\n"
        "for loss, draw, *_ in SUBJECTS.values(): loss(*draw(0, 3))\n"
        f"print(*{{{', '.join(map(repr, others))}}} & set(sys.modules))"
    )
    env = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == ""
