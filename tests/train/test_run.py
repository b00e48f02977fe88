"""Run folders: whose they are, what they hold, and what a full disk leaves."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.train.jobs import distiller, equal, images, job, net, saved, textbook, weights

from limbeck.checkpoint import load_state
from limbeck.errors import LimbeckError
from limbeck.train import train
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run

ROOT = Path(__file__).parents[2]


def files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


def test_a_finished_run_holds_these_files_and_no_more(tmp_path: Path) -> None:
    train(job(tmp_path / "run", valid=images(9)))
    assert files(tmp_path / "run") == [
        ".lock",
        "checkpoints/best.safetensors",
        "checkpoints/last.pt",
        "environment.json",
        "metrics.jsonl",
        "recipe.yaml",
        "student.safetensors",
    ]
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["threads"] == torch.get_num_threads()


def test_a_folder_with_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LimbeckError) as caught:
        Run(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} must be a new folder, but it holds files; go on with --resume, start again "
        "with --overwrite, or name another"
    )
    assert files(tmp_path) == ["thesis.txt"]


def test_overwriting_throws_away_a_run_and_nothing_else(tmp_path: Path) -> None:
    train(job(tmp_path, valid=images(9)))
    ours = ["evaluation.json", "report.html", "teacher/student.safetensors", "tensorboard/events"]
    for name in [*ours, "thesis.txt", "notes/thesis.txt"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    Run(tmp_path, overwrite=True, recipe="new").close()
    left = ["environment.json", "notes/thesis.txt", "recipe.yaml", "thesis.txt"]
    assert files(tmp_path) == [".lock", *left]
    assert (tmp_path / "recipe.yaml").read_text() == "new"


def test_a_folder_in_use_names_the_process(tmp_path: Path) -> None:
    """A second process may neither resume nor overwrite what the first is writing."""
    held = Run(tmp_path / "run")
    before = files(tmp_path)
    code = (
        "import sys; from pathlib import Path; from limbeck.train.run import Run\n"
        "for given in ({'resume': True}, {'overwrite': True}):\n"
        "    try: Run(Path(sys.argv[1]), **given)\n"
        "    except ValueError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message = f"{tmp_path / 'run'} is in use by process {os.getpid()}; name another folder"
    assert done.stdout.splitlines() == [message, message]
    assert files(tmp_path) == before
    held.close()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_a_rank_that_is_not_the_first_writes_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", writes=False)
    run.open(0)
    run.write({"kind": "train", "step": 1})
    run.finish(1, 0.5, 6)
    assert not (tmp_path / "run").exists()


def test_one_process_agrees_with_itself() -> None:
    ranks = Ranks()
    counts = {"kl": torch.tensor(3)}
    assert ranks.first
    assert ranks.any(15) == 15
    assert ranks.total(counts) == counts


def test_a_state_comes_after_its_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the two files: the older state makes both anew."""
    from limbeck.train import run

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    made = distiller(textbook(), net())
    with monkeypatch.context() as patch:
        patch.setattr(run, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train(job(tmp_path, made, epochs=1))
    assert files(tmp_path / "checkpoints") == []
    assert (tmp_path / "student.safetensors").is_file()


# ---- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 kB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small file system needs privileges")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_the_last_checkpoint_whole(small_disk: Path) -> None:
    """A neighbour fills the disk between two checkpoints; the kernel itself says no."""
    folder = small_disk / "run"
    train(job(folder, epochs=1))
    before, student = saved(folder), (folder / "student.safetensors").read_bytes()
    free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
    (small_disk / "neighbour").write_bytes(b"x" * free)
    again = job(folder, resume=True, epochs=2)
    with pytest.raises(LimbeckError) as caught:
        train(again, resume=True)
    message = str(caught.value)
    assert "\n" not in message
    assert "could not be written: no space left on device" in message
    assert equal(saved(folder), before)
    assert (folder / "student.safetensors").read_bytes() == student
    assert not list(folder.rglob("*.tmp"))
    (small_disk / "neighbour").unlink()
    made = distiller(textbook(), net())
    train(job(folder, made, resume=True, epochs=2), resume=True)
    assert saved(folder)["step"] == 8


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.train.jobs import distiller, job, net, saved, textbook
from limbeck.train import train
folder = Path(sys.argv[1])
train(job(folder, epochs=1))
before = saved(folder)["step"]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    train(job(folder, resume=True, epochs=2), resume=True)
except ValueError as error:
    print(error)
print(before, saved(folder)["step"])
"""


def test_a_write_that_stops_half_way_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    """No privilege needed: the kernel stops each file of the second epoch at 2 kB."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    message, steps = done.stdout.splitlines()
    assert "could not be written: file too large; what was there before is whole" in message
    assert steps == "4 4"
    assert load_state(tmp_path / "run/checkpoints/last.pt")["step"] == 4
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_weights_of_a_run_are_those_that_it_returned(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    shipped = train(job(tmp_path, epochs=1))
    assert equal(load_file(tmp_path / "student.safetensors"), weights(shipped))
