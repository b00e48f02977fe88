"""Training state and text on disk: whole or not there, whatever stops the writer."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.networks import mlp
from torch import nn

from limbeck import checkpoint
from limbeck.checkpoint import atomic, load_state, save_state, save_weights, write_text
from limbeck.errors import LimbeckError

each = pytest.mark.parametrize


def only(folder: Path) -> list[str]:
    """The names of everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def refused(call: Callable[..., Any], *args: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(LimbeckError) as caught:
        call(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


STATE: dict[str, Any] = {
    "step": 12,
    "best": 0.5,
    "names": ["a", ("b", None)],
    "w": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "random": torch.get_rng_state(),
}


def test_state_comes_back_as_it_was(tmp_path: Path) -> None:
    save_state(STATE, tmp_path / "last.pt")
    back = load_state(tmp_path / "last.pt")
    assert back.keys() == STATE.keys()
    assert all(back[name] == STATE[name] for name in ("step", "best", "names"))
    assert all(torch.equal(back[name], STATE[name]) for name in ("w", "half", "random"))
    assert back["half"].dtype == torch.bfloat16
    assert only(tmp_path) == ["last.pt"]


def test_an_optimizer_comes_back_as_it_was(tmp_path: Path) -> None:
    model = mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    save_state({"optimizer": optimizer.state_dict()}, tmp_path / "last.pt")
    other = torch.optim.AdamW(model.parameters(), lr=1.0)
    other.load_state_dict(load_state(tmp_path / "last.pt")["optimizer"])
    moments = [optimizer.state[p]["exp_avg"] for p in model.parameters()]
    assert all(map(torch.equal, moments, (other.state[p]["exp_avg"] for p in model.parameters())))
    assert other.param_groups[0]["lr"] == 0.1


@each("content", [mlp(), Path("runs")])
def test_state_that_could_not_be_read_again_is_not_written(content: Any, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(STATE, path)
    before = path.read_bytes()
    assert "must hold plain data, got" in refused(save_state, {"teacher": content}, path)
    assert path.read_bytes() == before
    assert only(tmp_path) == ["last.pt"]


@each("part", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_state_is_one_line_that_names_it(part: float, tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(STATE, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    assert refused(load_state, path).startswith(f"{path} must be a whole training state: ")


def test_a_changed_bit_of_a_tensor_is_found(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state({"w": torch.full((1000,), 1.5)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((100,), 1.5).numpy().tobytes()) + 9] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["w"].ne(1.5).any()
    assert refused(load_state, path).startswith(f"{path} must be a whole training state: ")


def test_a_missing_state_is_one_line(tmp_path: Path) -> None:
    assert str(tmp_path / "last.pt") in refused(load_state, tmp_path / "last.pt")


def a_state(path: Path, size: int) -> None:
    save_state({"w": torch.ones(size)}, path)


def some_weights(path: Path, size: int) -> None:
    save_weights(nn.Linear(size, 1, bias=False), path)


def a_text(path: Path, size: int) -> None:
    write_text(path, "text" * size)


WRITERS = [a_state, some_weights, a_text]


@each("write", WRITERS)
def test_a_full_disk_leaves_the_previous_file_whole(
    write: Callable[[Path, int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own refusal: /dev/full takes no byte."""

    @contextmanager
    def full(path: Path) -> Iterator[Path]:
        with atomic(path) as temporary:
            temporary.symlink_to("/dev/full")
            yield temporary

    path = tmp_path / "kept"
    write(path, 10)
    before = path.read_bytes()
    monkeypatch.setattr(checkpoint, "atomic", full)
    message = refused(write, path, 100_000)
    expected = "no space left on device; what was there before is whole"
    assert message == f"{path} could not be written: {expected}"
    assert path.read_bytes() == before
    assert only(tmp_path) == ["kept"]


LIMITED = """
import resource, sys
from pathlib import Path
import torch
from limbeck.checkpoint import save_state, save_weights, write_text
from limbeck.errors import LimbeckError
writers = {
    "state": lambda path, n: save_state({"w": torch.ones(n)}, path),
    "weights": lambda path, n: save_weights(torch.nn.Linear(n, 1, bias=False), path),
    "text": lambda path, n: write_text(path, "text" * n),
}
folder = Path(sys.argv[1])
for name, write in writers.items():
    write(folder / name, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
for name, write in writers.items():
    before = (folder / name).read_bytes()
    try:
        write(folder / name, 100_000)
    except LimbeckError as error:
        print(error, (folder / name).read_bytes() == before)
print(sorted(path.name for path in folder.iterdir()))
"""


def test_a_write_that_stops_half_way_leaves_the_previous_file_whole(tmp_path: Path) -> None:
    """The kernel stops each file at 100 kB, in the middle of a tensor."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = "file too large; what was there before is whole True"
    assert done.stdout.splitlines() == [
        *(f"{tmp_path / k} could not be written: {expected}" for k in ("state", "weights", "text")),
        "['state', 'text', 'weights']",
    ]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    message = refused(write_text, tmp_path / "none" / "a.txt", "text")
    assert "could not be written: no such file or directory" in message


@each("error", [KeyboardInterrupt, ZeroDivisionError])
def test_a_block_that_does_not_end_changes_nothing(
    error: type[BaseException], tmp_path: Path
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "before")

    def stopped() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        stopped()
    assert path.read_text() == "before"
    assert only(tmp_path) == ["a.txt"]


def test_bytes_reach_the_disk_before_the_name_and_the_name_before_we_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        events.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        sync(handle)

    def replaced(self: Path, target: Path) -> Path:
        events.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_text(tmp_path / "a.txt", "größer")
    assert events == ["file", "rename", "folder"]
    assert (tmp_path / "a.txt").read_bytes() == "größer".encode()


@each("write", WRITERS)
def test_files_have_the_permissions_of_any_new_file(
    write: Callable[[Path, int], None], tmp_path: Path
) -> None:
    (tmp_path / "plain").touch()
    write(tmp_path / "ours", 10)
    modes = [(tmp_path / name).stat().st_mode for name in ("plain", "ours")]
    assert modes[0] == modes[1]
