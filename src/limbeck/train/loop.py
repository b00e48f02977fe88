"""The training loop."""

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from limbeck.averages import Average
from limbeck.checkpoint import few
from limbeck.data import ImageBatch, Images, derive, in_order
from limbeck.distiller import Distiller
from limbeck.errors import LimbeckError
from limbeck.exits import without
from limbeck.ranks import agree, equal_buffers
from limbeck.schemes import Mutual
from limbeck.signals import Step
from limbeck.tasks.task import predictions
from limbeck.train import shards
from limbeck.train.interrupts import Interrupts
from limbeck.train.job import Job, prepare
from limbeck.train.optim import optimizer_for, rate, set_rate
from limbeck.train.pieces import pieces
from limbeck.train.progress import Progress
from limbeck.train.sharding import shard, shard_teachers
from limbeck.train.state import restore, state_of
from limbeck.train.watch import Watch, check_weights

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
EVALUATED = 256


def train(job: Job, *, resume: bool = False) -> nn.Module:
    """Trains the job's student and returns it; with `ema`, its average. Of several, the first.

    The result depends on the recipe and the seed alone: every random number of step n is drawn
    from (seed, n), so that stopping and resuming changes nothing.

    Raises:
        LimbeckError: a loss that is not finite, a full disk.
        SystemExit: 130 or 143 after SIGINT or SIGTERM, once everything is saved. So it is where the
            training is over and the signal came during its last evaluation: whoever sent it does
            not want what comes after a training either, and `resume` goes on with that.
    """
    try:
        trainer = Trainer(job)
        if resume:
            restore(trainer)
        trainer.fit()
        return trainer.shipped()
    finally:
        job.run.close()


class Trainer:
    """The state of a training and what moves it one step."""

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.step, self.seconds = 0, 0.0
        self.best = -1.0 if job.task.headline.higher else math.inf
        self.sharded = self.settings.parallel == "fsdp" and job.ranks.world > 1
        if self.sharded:  # before the device, which may not hold a whole teacher
            shard_teachers(job.distiller.sources, job.parts, job.ranks.world, job.device)
        self.distiller = job.distiller.to(job.device)
        self.students = self.distiller.students
        if self.settings.channels_last and not self.sharded:  # of whose parts FSDP2 has one order
            for student in self.students.values():
                student.to(memory_format=torch.channels_last)
        self.prepare()
        decay = self.settings.ema
        self.averages = {n: Average(s, decay) for n, s in self.students.items() if decay}
        parts = self.students if self.sharded and not decay else {}
        self.copies = {name: Average(student, 0.0) for name, student in parts.items()}
        if self.settings.compile:
            for student in self.students.values():
                student.compile()
        self.wrapped = self.wrap()
        students = nn.ModuleList(self.students.values())
        self.optimizer = optimizer_for(students, self.distiller.objective, self.settings)
        self.scaler = torch.amp.GradScaler(
            job.device.type, enabled=self.settings.precision == "float16"
        )
        self.total = self.settings.epochs * len(job.loader)
        if self.settings.max_steps is not None:
            self.total = min(self.total, self.settings.max_steps)
        if self.weighs and job.valid is None:
            raise LimbeckError("teach: general weighs the students by validation images; name some")

    def prepare(self) -> None:
        """Sizes the projectors, their weights drawn from the seed, and balances terms."""
        torch.manual_seed(derive(self.job.seed, "projectors"))
        prepare(self.distiller, self.job.loader, self.job.device, self.job.task)

    def wrap(self) -> nn.Module:
        """What a step calls: the distiller, which several ranks share or hold in parts."""
        world = self.job.ranks.world
        if self.sharded:
            shard(self.distiller, self.settings.shard, world)
        if world == 1 or self.sharded:
            return self.distiller
        unused = self.settings.find_unused
        return DistributedDataParallel(self.distiller, find_unused_parameters=unused)

    def fit(self) -> None:
        job, steps = self.job, len(self.job.loader)
        self.job.run.open(self.step)
        watch = Watch()
        progress = Progress(self.total, self.step, quiet=not job.ranks.first)
        started = time.perf_counter() - self.seconds
        with Interrupts() as interrupts, progress:
            while self.step < self.total:
                epoch = self.step // steps
                for batch in job.loader.epoch(epoch, self.step % steps):
                    watch.see(self.step, *self.update(batch))
                    self.step += 1
                    self.seconds = time.perf_counter() - started
                    progress.move(self.step, watch)
                    self.after_step(watch, job.ranks.any(interrupts.received))
                    if self.step == self.total:
                        break
            job.run.finish(self.step, self.seconds, self.step * job.loader.plan.rows)
            stop(job.ranks.any(interrupts.received))

    def update(self, batch: ImageBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """One optimizer step on this rank's share of a batch; returns loss and parts."""
        torch.manual_seed(derive(self.job.seed, f"step {self.step} rank {self.job.ranks.rank}"))
        progress = self.step / max(self.total - 1, 1)
        self.distiller.train()
        self.distiller.advance(progress)
        set_rate(self.optimizer, rate(self.step / self.total, self.settings))
        steps = [self.backward(*piece) for piece in list(pieces(self.job, batch))]
        self.apply()
        parts = {name: torch.stack([s.parts[name] for s in steps]).sum() for name in steps[0].parts}
        loss = torch.stack([s.loss.detach() for s in steps]).sum()
        return loss, parts

    def backward(
        self,
        inputs: Tensor,
        data: dict[str, Tensor],
        share: dict[str, Any] | None,
        last: bool,
    ) -> Step:
        with self.synchronised(last):
            with self.autocast():
                step = self.wrapped(inputs, share=share, **data)
            self.scaler.scale(step.loss).backward()
        return step

    def synchronised(self, last: bool) -> AbstractContextManager[None]:
        """Ranks exchange gradients with the last piece alone."""
        if self.sharded:
            cast("FSDPModule", self.distiller).set_requires_gradient_sync(last)
        if isinstance(self.wrapped, DistributedDataParallel) and not last:
            return self.wrapped.no_sync()
        return nullcontext()

    def autocast(self) -> AbstractContextManager[Any]:
        dtype = DTYPES.get(self.settings.precision)
        return torch.autocast(self.job.device.type, dtype) if dtype else nullcontext()

    def apply(self) -> None:
        """Clips, steps, clears, averages."""
        self.check_reached()
        if self.settings.clip is not None:
            self.scaler.unscale_(self.optimizer)
            for owner in self.owners():
                nn.utils.clip_grad_norm_(owner.parameters(), self.settings.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.sharded:
            equal = equal_buffers(self.distiller)
            agree(x for name, x in self.distiller.named_buffers() if name not in equal)
        for name, average in self.averages.items():
            average.update(self.students[name])

    def check_reached(self) -> None:
        """Refuses weights that no loss reached: DDP waits for them, and exchanges no others."""
        if not isinstance(self.wrapped, DistributedDataParallel) or self.settings.find_unused:
            return
        named = self.distiller.named_parameters()
        lost = [name for name, p in named if p.requires_grad and p.grad is None]
        if lost:
            raise LimbeckError(
                f"no loss of step {self.step} reaches {few(lost)}, for which DDP waits; set "
                "train.find_unused: true, or train in one process or with parallel: fsdp"
            )

    def owners(self) -> list[nn.Module]:
        """What has a gradient of its own: of several students each, with its projectors."""
        if isinstance(self.distiller, Distiller):
            return [self.distiller]
        teaching = self.distiller.teaching
        return [*self.distiller.members(), *([] if teaching is None else [teaching])]

    def after_step(self, watch: Watch, interrupted: int) -> None:
        """Logs, evaluates, saves and stops, each when it is due."""
        settings, steps = self.settings, len(self.job.loader)
        ended = self.step % steps == 0 or self.step == self.total
        epoch = -(-self.step // steps)
        if ended and self.weighs:
            self.weigh()
        if self.step % settings.log_every == 0 or ended:
            self.log_training(watch.check(), epoch)
        if ended and (epoch % settings.evaluate_every == 0 or self.step == self.total):
            self.evaluate(epoch)
        due = settings.save_every is not None and self.step % settings.save_every == 0
        if ended or due or interrupted:
            watch.check()
            check_weights(self.distiller, self.step, self.job.ranks)
            self.save()
        stop(interrupted)

    def log_training(self, seen: tuple[float, dict[str, float]], epoch: int) -> None:
        loss, parts = seen
        self.job.run.write(
            {
                "kind": "train",
                "step": self.step,
                "epoch": epoch,
                "progress": self.step / self.total,
                "loss": loss,
                "parts": parts,
                "lr": self.optimizer.param_groups[0]["lr"],
                "images_per_second": self.step * self.job.loader.plan.rows / self.seconds,
            }
        )

    @property
    def weighs(self) -> bool:
        """Whether several students are weighed after each epoch."""
        return isinstance(self.distiller, Mutual) and self.distiller.weighs

    def weigh(self) -> None:
        """Weighs the students by the validation images, on every rank by all of them."""
        job = self.job
        assert isinstance(self.distiller, Mutual)
        assert job.valid is not None
        batches = in_order(job.valid, EVALUATED, workers=job.workers)
        told = (job.task.signals(batch, job.device) for batch in batches)
        self.distiller.weigh((inputs, data["target"]) for inputs, data in told)

    def evaluate(self, epoch: int) -> None:
        """Scores each student on the validation images; the first one's best is kept."""
        if self.job.valid is None:
            return
        models = {name: self.shipped(name) for name in self.students}
        if not self.job.ranks.first:
            return
        at = {"kind": "eval", "step": self.step, "epoch": epoch}
        for i, (name, model) in enumerate(models.items()):
            scores = self.scores(name, model, self.job.valid)
            who = {"student": name} if len(self.students) > 1 else {}
            self.job.run.write({**at, **who, **scores, "split": "valid"})
            if i == 0:
                self.keep_best(scores, model)

    def scores(self, name: str, model: nn.Module, images: Images) -> dict[str, float | None]:
        """What a student scores."""
        job, adapt = self.job, self.distiller.readers[name].adapt
        answers = predictions(model, adapt, images, workers=job.workers)
        return job.task.watched(answers, images.classes)

    def keep_best(self, scores: Mapping[str, float | None], model: nn.Module) -> None:
        """Keeps the first student beside the last if it never was better."""
        measure = self.job.task.headline
        score = scores[measure.key]
        if score is not None and measure.sign * (score - self.best) > 0:
            self.best = score
            self.job.run.save_best(model)

    def shipped(self, name: str = "") -> nn.Module:
        """A student as it is evaluated and kept: its average where there is one; else the first.

        What the ranks hold in parts is put together, by all of them.
        """
        name = name or next(iter(self.students))
        if name in self.copies:
            self.copies[name].update(self.students[name])
        whole = (self.averages | self.copies).get(name)
        return without(self.students[name] if whole is None else whole.model)

    def save(self) -> None:
        """The students and the state, which comes last; of a sharded training after its parts."""
        run, ranks = self.job.run, self.job.ranks
        peers = {name: self.shipped(name) for name in self.students}
        state = state_of(self)
        if self.settings.parallel == "fsdp":
            tensors = shards.tensors_of(self.distiller, self.optimizer)
            state["shards"] = shards.save(tensors, run.shards(self.step), ranks)
        if ranks.first:
            run.save(state, next(iter(peers.values())), peers if len(peers) > 1 else {})
            run.drop_shards(self.step)
        ranks.wait()


def stop(interrupted: int) -> None:
    """Ends the process as the signal of this number asked, if one came."""
    if interrupted:
        raise SystemExit(128 + interrupted)
