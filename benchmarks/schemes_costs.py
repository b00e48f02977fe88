"""What a step of each training takes: time, and memory."""

import random
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from schemes_world import Made, Stage, World
from torch import nn
from torch.profiler import ProfilerActivity, profile

from limbeck.train import Training
from limbeck.train.optim import optimizer_for

STEPS = 3  # after which nothing more is allocated that stays
Begin = Callable[[], Callable[[], None]]


def beginnings(
    arms: dict[str, dict[str, Stage]], world: World, settings: Training
) -> Iterator[tuple[str, Begin]]:
    """Each training by its name, with what builds it and returns its step."""
    for arm, stages in arms.items():
        for stage in stages:
            name = arm if len(stages) == 1 else f"{arm}, {stage}"
            yield (
                name,
                lambda stages=stages, stage=stage: step_of(
                    made_until(stages, stage, world), settings
                ),
            )


def made_until(stages: dict[str, Stage], last: str, world: World) -> Made:
    """A training with its teachers in place, of which those that come before are untrained."""
    learnt: dict[str, nn.Module] = {}
    for name, make in stages.items():
        made = make(world, learnt)
        if name == last:
            return made
        learnt |= made.judged
    raise KeyError(last)


def step_of(made: Made, settings: Training) -> Callable[[], None]:
    """A training step on its first batch."""
    inputs, data = made.task.signals(next(made.loader.epoch(0)), torch.device("cpu"))
    students = nn.ModuleList(made.learner.students.values())
    students.to(memory_format=torch.channels_last)
    made.learner.prepare(inputs, **data)
    optimizer = optimizer_for(students, made.learner.objective, settings)

    def step() -> None:
        made.learner.advance(0.5)
        made.learner(inputs, **data).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def times(begin: Begin, baseline: Begin, rounds: int) -> float:
    """A step's time over that of the baseline: medians, in turns and random order."""
    ways = {"ours": begin(), "theirs": baseline()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(list(ways), len(ways)):
            start = time.process_time()
            ways[name]()
            seconds[name].append(time.process_time() - start)
    ours, theirs = (statistics.median(seconds[name][1:]) for name in ("ours", "theirs"))
    return ours / theirs


def mebibytes(begin: Begin) -> float:
    """The most memory that PyTorch's tensors have at once while a training is built and begins.

    Weights, gradients, momentum, activations, teachers and what sources remember; without the
    images and without what libraries take for themselves. Of trained sources, it is counted while
    they answer live.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step = begin()
        for _ in range(STEPS):
            step()
    kineto = profiler.profiler.kineto_results
    events = [(e.start_ns(), e.nbytes()) for e in kineto.events() if e.name() == "[memory]"]
    held = most = 0
    for _, size in sorted(events, key=lambda event: event[0]):
        held += size
        most = max(most, held)
    return most / 2**20
