"""Stopping and going on in the trainer leaves the same bits as never stopping."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.jobs import VIEW, Signalled, equal, job, loader, net, saved, timeless, weights
from torch import nn

from limbeck import Distiller, Drawn, Ema, Frozen, Match, Past, Reader, losses, truth
from limbeck.checkpoint import load_state, save_state
from limbeck.schedules import Linear
from limbeck.train import train

SAMPLES = 24


def frozen(seed: int) -> Frozen:
    return Frozen(net(6, seed, norm=True), inputs=VIEW)


def everything() -> Distiller:
    """Dropout and batch statistics in a student that four sources teach, three of which move."""
    student: nn.Module = net(norm=True, drop=0.3)
    reader = Reader(student, inputs=VIEW)
    sources = {
        "ema": Ema(reader, 0.8),
        "past": Past(SAMPLES),
        "drawn": Drawn([frozen(1), frozen(2), Ema(reader, 0.5)], seed=0),
    }
    soft = Match(losses.ps_kd, source="past", given={"target": "data:target"}, alpha=Linear(0, 0.8))
    objective = 0.5 * truth() + soft
    objective += Match(losses.kl, source="ema") + Match(losses.hint, "conv", source="ema")
    objective += Match(losses.kl, source="drawn", temperature=4)
    return Distiller(reader, sources, objective)


@pytest.mark.parametrize("stop", [3, 4, 7])
@pytest.mark.parametrize("settings", [{}, {"accumulate": 2, "optimizer": "AdamW", "ema": 0.8}])
def test_resuming_equals_never_stopping(
    stop: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    torch.manual_seed(11)
    expected = train(job(straight, everything(), **settings))
    with pytest.raises(SystemExit):
        train(job(broken, everything(), batches=Signalled(loader(), stop - 1), **settings))
    assert saved(broken)["step"] == stop
    torch.manual_seed(12)
    found = train(job(broken, everything(), resume=True, **settings), resume=True)
    assert equal(weights(found), weights(expected))
    assert equal(saved(broken), saved(straight))
    assert timeless(broken) == timeless(straight)
    sources = saved(broken)["sources"]
    assert (int(sources["past"]["step"]), int(sources["drawn"]["step"])) == (12, 12)
    assert bool((sources["past"]["seen"] > 8).all())  # all samples in the last epoch of four steps


@pytest.mark.parametrize("name", ["ema", "past", "drawn"])
def test_what_each_source_kept_matters(name: str, tmp_path: Path) -> None:
    """The test above would see a source that starts anew."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    expected = weights(train(job(straight, everything())))
    with pytest.raises(SystemExit):
        train(job(broken, everything(), batches=Signalled(loader(), 6)))
    last = broken / "checkpoints" / "last.pt"
    state = load_state(last)
    state["sources"][name] = everything().sources[name].state_dict()
    save_state(state, last)
    found = train(job(broken, everything(), resume=True), resume=True)
    assert not equal(weights(found), expected)
