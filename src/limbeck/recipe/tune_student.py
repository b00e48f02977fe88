"""Steps of the students in each way that is faster, and of their data."""

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from limbeck.check.interleaved import interleaved
from limbeck.check.rehearsal import rehearsal
from limbeck.check.timing import endless
from limbeck.data import ImageBatch
from limbeck.inputs import Preprocess
from limbeck.models.folding import CONVOLUTIONS
from limbeck.recipe.build import Built, loader_of
from limbeck.recipe.tune_rows import Tried
from limbeck.signals import Batch, Signals
from limbeck.sources import Source
from limbeck.train import Training
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks
from limbeck.train.run import Run

KEYS = ("precision", "channels_last", "compile")
STEPS, AHEAD = 4, 2
MOST_WORKERS = 4


class Replayed(Source):
    """A source that is asked once for each size of a batch, so that steps are the student's own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.known: dict[tuple[int, ...], Mapping[str, Tensor]] = {}

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        key = (len(batch.inputs), hash(tuple(wants)))
        if key not in self.known:
            self.known[key] = self.source(batch, signals, wants)
        return self.known[key]


def replayed(source: Source) -> Source:
    """The source replayed, unless it is made of the student."""
    return source if source.moves or source.reads(["output"]) else Replayed(source)


def tried_students(built: Built, batch: ImageBatch) -> list[Tried]:
    """Every option for the students' steps without their teachers, the recipe's own first."""
    job = built.job(Run(Path(), writes=False), Ranks())
    found = options(job.settings, convolves(built))
    with ExitStack() as stack:
        ways: dict[str, Callable[[], object]] = {}
        for settings in found:
            trainer = stack.enter_context(rehearsal(replace(job, settings=settings)))
            ways[called(settings)] = stepping(trainer, settings, batch)
        times = interleaved(ways, job.device)
    return [Tried(called(each), keys_of(each), times[called(each)]) for each in found]


def convolves(built: Built) -> bool:
    """Whether a student has convolutions, which a memory format is for."""
    students = built.distiller.students.values()
    return any(isinstance(m, CONVOLUTIONS) for student in students for m in student.modules())


def options(settings: Training, convs: bool) -> list[Training]:
    """The recipe's own, then each precision, format and compiling, each once."""
    eager = itertools.product(("float32", "bfloat16"), {False, convs}, [False])
    compiled = itertools.product(("float32", "bfloat16"), [convs], [True])
    ways = [dict(zip(KEYS, way, strict=True)) for way in (*eager, *compiled)]
    found = [settings, *(settings.model_copy(update=way) for way in ways)]
    return [each for k, each in enumerate(found) if each not in found[:k]]


def stepping(trainer: Trainer, settings: Training, batch: ImageBatch) -> Callable[[], object]:
    """A step of the trainer's students; what teaches them answers from memory."""
    sources = trainer.distiller.sources
    trainer.distiller.sources = {name: replayed(source) for name, source in sources.items()}
    for reader in trainer.distiller.readers.values():
        if isinstance(reader.inputs, Preprocess):
            reader.inputs = replace(reader.inputs, channels_last=settings.channels_last)
    trainer.update(batch)  # which teachers answer
    if settings.compile:
        for student in trainer.students.values():
            student.compile()
    return lambda: trainer.update(batch)


def called(settings: Training) -> str:
    """What settings ask of a student's speed, in words."""
    words = {"channels last": settings.channels_last, "compiled": settings.compile}
    return ", ".join([settings.precision, *(word for word, said in words.items() if said)])


def keys_of(settings: Training) -> dict[str, Any]:
    return {key: getattr(settings, key) for key in KEYS}


# ---- data


def tried_workers(built: Built) -> list[Tried]:
    """Numbers of processes that read images, the recipe's own first; none for images in memory."""
    if built.splits.train.in_memory:
        return []
    own = built.recipe.data.workers
    most = min(os.cpu_count() or 1, MOST_WORKERS)
    counts = [own, *(n for n in (0, 1, 2, 4) if n <= most and n != own)]
    with rehearsal(built.job(Run(Path(), writes=False), Ranks())) as trainer:
        ways = {str(count): Reading(built, trainer, count) for count in counts}
        times = interleaved(ways, built.device)
    return [Tried(str(n), {"workers": n}, times[str(n)]) for n in counts]


class Reading:
    """Some whole steps with images that so many processes read, by the clock."""

    def __init__(self, built: Built, trainer: Trainer, workers: int) -> None:
        data = built.recipe.data.model_copy(update={"workers": workers})
        recipe = built.recipe.model_copy(update={"data": data})
        loader = loader_of(recipe, built.splits.train, Ranks(), recipe.train)
        self.trainer, self.batches = trainer, endless(loader)
        self.ready = AHEAD * workers

    def __call__(self) -> float:
        """Seconds; what was read while others had their turn is not counted."""
        for _ in range(self.ready):
            next(self.batches)
        begun = time.perf_counter()
        for _ in range(STEPS):
            self.trainer.update(next(self.batches))
        return time.perf_counter() - begun
