"""Where the time of a step goes, and how long the run will take."""

import itertools
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from limbeck.data import ImageBatch, Loader
from limbeck.evaluate.speed import wait
from limbeck.signals import Batch, Signals
from limbeck.sources import Recorded, Source
from limbeck.train import Job
from limbeck.train.loop import Trainer
from limbeck.train.pieces import pieces

PHASES = ("data", "teacher", "student", "loss", "backward", "optimizer")
WARM_UP, FEWEST, MOST, SECONDS = 1, 3, 50, 1.0


class Stopwatch:
    """Seconds of each phase; a lap ends when the device has done its work."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start()

    def start(self) -> None:
        self.laps = dict.fromkeys(PHASES, 0.0)
        self.last = time.perf_counter()

    def lap(self, phase: str) -> None:
        """What has passed since the last lap belongs to `phase`."""
        wait(self.device)
        now = time.perf_counter()
        self.laps[phase] += now - self.last
        self.last = now


class Timed(Source):
    """A source under the stopwatch; what came before its turn was the student."""

    def __init__(self, source: Source, watch: Stopwatch) -> None:
        self.source, self.watch = source, watch

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        self.watch.lap("student")
        answer = self.source(batch, signals, wants)
        self.watch.lap("teacher")
        return answer

    def modules(self) -> list[nn.Module]:
        return self.source.modules()


def phases(trainer: Trainer) -> dict[str, float]:
    """The median milliseconds that each phase of a step takes, over some steps of `trainer`.

    Moves the trainer's student.
    """
    watch, steps = Stopwatch(trainer.job.device), []
    sources = trainer.distiller.sources
    trainer.distiller.sources = {name: Timed(source, watch) for name, source in sources.items()}
    batches, began = endless(trainer.job.loader), time.perf_counter()
    while len(steps) < WARM_UP + FEWEST or (
        len(steps) < MOST and time.perf_counter() - began < SECONDS
    ):
        steps.append(step(trainer, batches, watch))
    trainer.distiller.sources = sources
    counted = steps[WARM_UP:]
    return {phase: 1000 * statistics.median(s[phase] for s in counted) for phase in PHASES}


def endless(loader: Loader) -> Iterator[ImageBatch]:
    for epoch in itertools.count():
        yield from loader.epoch(epoch)


def step(trainer: Trainer, batches: Iterator[ImageBatch], watch: Stopwatch) -> dict[str, float]:
    """Seconds of each phase of one training step."""
    watch.start()
    distiller: Any = trainer.distiller.train()
    for inputs, data, share, _ in pieces(trainer.job, next(batches)):
        watch.lap("data")
        with trainer.autocast():
            output, signals = distiller.gather(inputs, data)
            watch.lap("student")
            loss = distiller.score(output, signals, share).loss
            watch.lap("loss")
        trainer.scaler.scale(loss).backward()
        watch.lap("backward")
    trainer.apply()
    watch.lap("optimizer")
    return watch.laps


def answered(job: Job, source: Source, steps: int) -> int:
    """In how many of `steps` a source is really asked: one with a record, until it is full."""
    if not isinstance(source, Recorded):
        return steps
    plan = job.loader.plan
    return min(steps, -(-source.views * plan.samples // plan.rows))


def run_time(
    job: Job, steps: int, laps: Mapping[str, float], evaluation: float
) -> dict[str, float]:
    """What a run of `steps` will take, in seconds; `evaluation` is what one on valid takes."""
    settings, epochs = job.settings, -(-steps // len(job.loader))
    evaluations = -(-epochs // settings.evaluate_every)
    own = sum(ms for phase, ms in laps.items() if phase != "teacher")
    sources = job.distiller.sources.values()
    asked = max((answered(job, source, steps) for source in sources), default=0)
    training = (steps * own + asked * laps["teacher"]) / 1000
    return {
        "steps": steps,
        "evaluations": evaluations,
        "fit_seconds": 0.0,
        "seconds": training + evaluations * evaluation,
    }
