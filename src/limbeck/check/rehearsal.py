"""A training that can be tried out, since it is a copy."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from limbeck.modes import evaluating
from limbeck.sources import Recorded, Source
from limbeck.sources.several import Several
from limbeck.train import Job
from limbeck.train.loop import Trainer
from limbeck.train.ranks import Ranks


@contextmanager
def rehearsal(job: Job) -> Iterator[Trainer]:
    """A trainer whose students and objectives are copies, uncompiled, its sources the job's own.

    Afterwards sources, modes, devices and random numbers are as they were.
    """
    sources = {name: live(source) for name, source in job.distiller.sources.items()}
    shared = {id(source): sources[name] for name, source in job.distiller.sources.items()}
    settings = job.settings.model_copy(update={"compile": False})
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices))
        for source in sources.values():
            stack.enter_context(kept(source))
        distiller = copy.deepcopy(job.distiller, shared)
        yield Trainer(replace(job, distiller=distiller, settings=settings, ranks=Ranks()))


def live(source: Source) -> Source:
    """Who is asked, where answers are recorded, inside of a source too."""
    if isinstance(source, Recorded):
        return live(source.source)
    if isinstance(source, Several):
        source = copy.copy(source)
        source.sources = [live(each) for each in source.sources]
    return source


@contextmanager
def kept(source: Source) -> Iterator[None]:
    """The source's state, modes and devices as they are, afterwards."""
    state, modules = source.state_dict(), source.modules()
    homes = [next((p.device for p in module.parameters()), None) for module in modules]
    with ExitStack() as stack:
        for module in modules:
            stack.enter_context(evaluating(module))
        try:
            yield
        finally:
            source.load_state_dict(state)
            for module, home in zip(modules, homes, strict=True):
                if home is not None:
                    module.to(home)
