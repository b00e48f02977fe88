"""Trainings that are counted and stopped where a test wants it, and what they left."""

from typing import Any

import pytest

from limbeck.train.loop import Trainer


class Steps:
    """Counts optimizer steps, and stops a training before one of them if asked to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.taken, self.stop = 0, -1
        update = Trainer.update

        def counted(trainer: Trainer, batch: Any) -> Any:
            if self.taken == self.stop:
                raise KeyboardInterrupt
            self.taken += 1
            return update(trainer, batch)

        monkeypatch.setattr(Trainer, "update", counted)


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """An evaluation without what a clock said."""
    return {
        name: timeless(value) if isinstance(value, dict) else value
        for name, value in document.items()
        if name not in ("latency_ms", "throughput")
    }
