"""Speed is measured by three calls, however short they are."""

import pytest


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limbeck.evaluate.speed.SECONDS", 0.0)
