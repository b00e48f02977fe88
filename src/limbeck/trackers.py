"""Where metrics go: `metrics.jsonl` always, TensorBoard on request."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from limbeck.checkpoint import reason, write_text
from limbeck.errors import LimbeckError, need


class Tracker(Protocol):
    """Takes records; `kind`, `step`, and numbers or named numbers."""

    def write(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Lines:
    """One JSON object a line, complete as soon as it is written.

    Opening with `step` drops the lines of later steps and of an end, which a resumed run writes
    anew.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        before = read_lines(path) if step else []
        kept = [line for line in before if line["step"] <= step and line["kind"] != "done"]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.path, self.file = path, path.open("a", encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        try:
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        except OSError as error:
            raise LimbeckError(f"{self.path} could not be written: {reason(error)}") from error

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()


class TensorBoard:
    """Event files beside the metrics."""

    def __init__(self, folder: Path) -> None:
        board = need("torch.utils.tensorboard", "track")
        self.writer = board.SummaryWriter(str(folder))

    def write(self, record: dict[str, Any]) -> None:
        for name, value in record.items():
            values = value if isinstance(value, dict) else {"": value}
            for part, number in values.items():
                if isinstance(number, int | float) and name not in ("step", "epoch"):
                    who = record.get("student")
                    tag = "/".join(filter(None, (record["kind"], who, name, part)))
                    self.writer.add_scalar(tag, number, record["step"])

    def close(self) -> None:
        self.writer.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics file; a last line that a killed run left half-written is dropped."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records
