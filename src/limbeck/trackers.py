"""Where metrics go: `metrics.jsonl` always, TensorBoard on request."""

import json
from pathlib import Path
from typing import Any, Protocol

from limbeck.errors import need


class Tracker(Protocol):
    """Takes records; `kind`, `step`, and numbers or named numbers."""

    def write(self, record: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class Lines:
    """One JSON object a line, complete as soon as it is written.

    Opening with `step` drops the lines of later steps, which a resumed run writes anew.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        kept = [line for line in read_lines(path) if line["step"] <= step] if step else []
        self.file = path.open("w", encoding="utf-8")
        for record in kept:
            self.write(record)

    def write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def close(self) -> None:
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
                    tag = "/".join(filter(None, (record["kind"], name, part)))
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
