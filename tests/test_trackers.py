"""Metrics on disk: whole lines, whatever stops the writer."""

import json
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import LimbeckError
from limbeck.trackers import Lines, TensorBoard, read_lines

each = pytest.mark.parametrize


def line(step: int, kind: str = "train", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "step": step, **more}


def test_a_line_is_on_disk_as_soon_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = Lines(path)
    for step in (1, 2):
        lines.write(line(step, loss=0.1 * step, parts={"kl": 1e-7}))
        assert path.read_text().endswith("}\n")
        assert read_lines(path)[-1] == line(step, loss=0.1 * step, parts={"kl": 1e-7})
    lines.close()
    lines.close()
    assert [json.loads(text)["step"] for text in path.read_text().splitlines()] == [1, 2]


def test_opening_at_a_step_drops_what_came_later(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = [line(1), line(2), line(2, "eval", top1=0.5), line(3), line(4, "done")]
    path.write_text("".join(json.dumps(record) + "\n" for record in before))
    Lines(path, 2).close()
    assert read_lines(path) == before[:3]


def test_opening_at_the_end_drops_the_end_alone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = [line(1), line(2, "eval"), line(2, "done")]
    path.write_text("".join(json.dumps(record) + "\n" for record in before))
    lines = Lines(path, 2)
    lines.write(line(2, "done"))
    lines.close()
    assert read_lines(path) == before


def test_opening_at_the_start_drops_everything(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(line(0)) + "\n")
    Lines(path).close()
    assert path.read_text() == ""


@each("cut", range(1, 40, 7))
def test_a_last_line_that_is_cut_is_dropped(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    whole = json.dumps(line(1)) + "\n"
    path.write_text((whole + json.dumps(line(2, loss=0.5)) + "\n")[:-cut])
    assert read_lines(path) == [line(1)] + [line(2, loss=0.5)] * (cut == 1)
    lines = Lines(path, 2)
    lines.write(line(3))
    lines.close()
    assert [record["step"] for record in read_lines(path)][-1] == 3
    assert path.read_text().count("\n") == len(read_lines(path))


def test_a_file_that_is_not_there_has_no_lines(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "none.jsonl") == []


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """The kernel's own refusal: /dev/full takes no byte."""
    lines = Lines(tmp_path / "metrics.jsonl")
    lines.file.close()
    lines.file = Path("/dev/full").open("a", encoding="utf-8")
    with pytest.raises(LimbeckError) as caught:
        lines.write(line(1))
    assert str(caught.value) == (
        f"{tmp_path / 'metrics.jsonl'} could not be written: no space left on device"
    )
    lines.close()


def test_tensorboard_holds_every_number_by_kind_and_part(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for step in (1, 2):
        board.write(line(step, epoch=1, loss=0.5 * step, parts={"truth": 0.25, "hint[a]": 0.1}))
    board.write(line(2, "eval", top1=0.75, split="valid"))
    board.close()
    found = events.EventAccumulator(str(tmp_path))
    found.Reload()
    tags = found.Tags()["scalars"]
    assert sorted(tags) == ["eval/top1", "train/loss", "train/parts/hint[a]", "train/parts/truth"]
    assert [(e.step, e.value) for e in found.Scalars("train/loss")] == [(1, 0.5), (2, 1.0)]
    assert [(e.step, e.value) for e in found.Scalars("eval/top1")] == [(2, 0.75)]


def test_tensorboard_tells_students_apart(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    for name, top1 in (("a", 0.5), ("b", 0.25)):
        board.write({"kind": "eval", "step": 4, "epoch": 1, "student": name, "top1": top1})
    board.close()
    found = events.EventAccumulator(str(tmp_path)).Reload()
    seen = {tag: found.Scalars(tag)[0].value for tag in found.Tags()["scalars"]}
    assert seen == {"eval/a/top1": 0.5, "eval/b/top1": 0.25}
