"""A rank is killed; torchrun starts all anew, and the run ends as if nothing had happened."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file
from tests.recipe.runs import ranked
from tests.train.jobs import equal, records, timeless
from tests.train.test_accumulate import RECIPE, ROOT, pictures

from limbeck.recipe import read
from limbeck.train.run import Run, restarted

__all__ = ["pictures"]
KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from limbeck.cli import main
from limbeck.evaluate import speed
from limbeck.train.loop import Trainer

folder, rank, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
life, update = os.environ["TORCHELASTIC_RESTART_COUNT"], Trainer.update

def until_killed(trainer, batch):
    if (life, os.environ["RANK"], trainer.step) == ("0", rank, step):
        os.kill(os.getpid(), signal.SIGKILL)
    return update(trainer, batch)

def begun(trainer):
    (folder / f"{os.environ['RANK']}-{life}").write_text(str(trainer.step))
    fit(trainer)

speed.SECONDS = 0.0
fit, Trainer.fit, Trainer.update = Trainer.fit, begun, until_killed
main(sys.argv[4:])
"""


def launched(recipe: Path, rank: int, step: int) -> Path:
    """A run of two ranks, of which one is killed before a step of its first life."""
    folder = recipe.parent
    script, out = folder / "killed.py", folder / "killed"
    script.write_text(KILLED)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    limbeck = ("train", str(recipe), "--out", str(out), "--json")
    command = [sys.executable, *torchrun, "--max-restarts=1", str(script), str(folder)]
    done = subprocess.run(
        [*command, str(rank), str(step), *limbeck],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((out / "evaluation.json").read_text())
    return out


@pytest.mark.parametrize(
    ("parallel", "rank"), [("ddp", 1), pytest.param("fsdp", 0, marks=pytest.mark.slow)]
)
def test_a_killed_rank_changes_nothing(
    parallel: str, rank: int, pictures: Path, tmp_path: Path
) -> None:
    """Killed inside of an epoch, two steps after the last state; the other run never is."""
    recipe, straight = tmp_path / "recipe.yaml", tmp_path / "straight"
    text = RECIPE.format(folder=pictures, accumulate=1)
    more = f"evaluate_every: 20, parallel: {parallel}, save_every: 4"
    recipe.write_text(text.replace("evaluate_every: 20", more))
    ranked(read(recipe), straight)
    killed = launched(recipe, rank, 11)
    lives = {path.name: path.read_text() for path in tmp_path.glob("?-?")}
    assert lives == {"0-0": "0", "1-0": "0", "0-1": "9", "1-1": "9"}
    files = [folder / "student.safetensors" for folder in (straight, killed)]
    assert equal(*map(load_file, files))
    assert timeless(killed) == timeless(straight)
    assert [line["step"] for line in records(killed, "train")] == list(range(1, 21))


def test_only_a_restart_of_the_same_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call must be told what to do with the folder, as without torchrun."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "first")
    assert not restarted(tmp_path)
    Run(tmp_path, recipe="r").close()
    assert restarted(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "second")
    assert not restarted(tmp_path)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    assert not restarted(tmp_path)


def test_a_call_without_a_name_is_known_by_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    Run(tmp_path, recipe="r").close()
    assert restarted(tmp_path)
    monkeypatch.setattr(os, "getppid", lambda: -1)
    assert not restarted(tmp_path)
