"""CRD: an objective with two projectors and a memory of every sample."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.losses.contrast import log_partition
from limbeck.methods.negatives import Negatives, generator
from limbeck.objective import Objective, project
from limbeck.ranks import gathered
from limbeck.signals import Signals


class CRD(Objective):
    """Contrastive representation distillation: a sample's embedding against thousands of others.

    Both sides are projected to `width` numbers by linear layers that train. Two memories, one of
    either side, hold a unit vector of each sample; a training step reads them by `losses.crd` and
    then turns the vectors of its own samples towards what it saw:
    m <- normalise(momentum * m + (1 - momentum) * x). Samples are known by the data's `ids`.

    Negatives are drawn with replacement from the other samples, or with `labels` from those of
    other classes as by the authors' loader, never the sample itself; which ones depends on `seed`,
    the step and the sample alone, not on the batch or the rank. Z is measured on the first
    training batch and held, as in the authors' code: the paper has none, but without it the ratio
    of P to K/N would be arbitrary, and one that followed the batch would let the scores drift.

    All ranks see all samples of a step before they update, so that they keep the same memories.
    Memories, Z and the step are buffers: they are saved with the training, not with the student,
    and take `CRD.bytes(samples)`. Give DDP `broadcast_buffers=False`, or it sends them each step.

    Args:
        samples: N, how many samples there are; `ids` are 0 ... N - 1.
        student: the student's features, (B, ...); the input of its classifier by custom.
        theirs: the source's; the same name unless said.
        source: whose.
        labels: the classes of the N samples, integers (N,).
        width: D of the embeddings.
        negatives: K for each sample.
        temperature: of the scores.
        momentum: how much of a remembered vector stays.
        seed: of the memories' first vectors and of the negatives.
        name: the part's name.

    Raises:
        LimbeckError: fewer than two samples, ids out of range, labels that are not one for each
            sample or all the same, a momentum, temperature or width out of range, use before
            `prepare`.

    Example:
        >>> CRD(50_000, "avgpool").parts(), CRD.bytes(1_000_000)
        (['crd[avgpool]'], 1024000000)

    Paper:
        Tian, Krishnan, Isola, ICLR 2020, arXiv 1910.10699.
    """

    memory_s: Tensor
    memory_t: Tensor
    log_z: Tensor
    step: Tensor

    def __init__(
        self,
        samples: int,
        student: str,
        theirs: str | None = None,
        *,
        source: str = "teacher",
        labels: Tensor | None = None,
        width: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
        seed: int = 0,
        name: str | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1 or temperature <= 0 or width < 1:
            raise LimbeckError(
                "momentum must be in [0, 1), temperature positive and width at least 1, "
                f"got {momentum}, {temperature} and {width}"
            )
        self.student, self.theirs, self.source = student, theirs or student, source
        self.draw = Negatives(samples, negatives, labels, seed)
        self.width, self.seed = width, seed
        self.temperature, self.momentum = temperature, momentum
        self.name = name or f"crd[{student}]"
        self.embed_s: nn.Linear | None = None
        self.embed_t: nn.Linear | None = None

    equal_on_ranks = ("memory_s", "memory_t")

    @staticmethod
    def bytes(samples: int, width: int = 128) -> int:
        """What the two memories take in single precision: 2 * N * D * 4."""
        return 2 * samples * width * 4

    def needs(self) -> list[tuple[str, str]]:
        return [("student", self.student), (self.source, self.theirs), ("data", "ids")]

    def parts(self) -> list[str]:
        return [self.name]

    def prepare(self, signals: Signals) -> None:
        if self.embed_s is not None:
            return
        s, t = self.features(signals)
        dtype = torch.promote_types(s.dtype, torch.float32)
        self.embed_s = nn.Linear(s.shape[1], self.width, device=s.device, dtype=dtype)
        self.embed_t = nn.Linear(t.shape[1], self.width, device=s.device, dtype=dtype)
        for number, side in enumerate(("memory_s", "memory_t")):
            vectors = torch.randn(
                self.draw.samples, self.width, generator=generator(self.seed, number)
            )
            self.register_buffer(side, F.normalize(vectors).to(s.device, dtype))
        self.register_buffer("log_z", torch.zeros(2, device=s.device, dtype=dtype))
        self.register_buffer("step", torch.zeros((), device=s.device, dtype=torch.long))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        s, t = self.embeddings(signals)
        ids = signals.of("data", "ids")
        index = self.draw(ids, int(self.step)).to(s.device)
        z_s, z_t = self.partitions(s, t, index)
        value = losses.crd(
            s,
            t,
            self.memory_s,
            self.memory_t,
            index,
            temperature=self.temperature,
            z_s=z_s,
            z_t=z_t,
        )
        if self.learns():
            self.remember(ids, s, t)
        return {self.name: value}

    def learns(self) -> bool:
        """Whether this is a training step, which changes the memories."""
        return self.training and torch.is_grad_enabled()

    def features(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """Both sides as rows (B, ...)."""
        s = signals.of("student", self.student)
        t = signals.of(self.source, self.theirs).detach()
        return s.flatten(1), t.flatten(1)

    def embeddings(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """Both sides projected (B, D)."""
        if self.embed_s is None or self.embed_t is None:
            raise LimbeckError(
                f"{self.name}: the memory has no size yet; call distiller.prepare(inputs) first"
            )
        s, t = self.features(signals)
        return project(self.embed_s, s), project(self.embed_t, t)

    def partitions(self, s: Tensor, t: Tensor, index: Tensor) -> tuple[Tensor | None, ...]:
        """Z of either side: that of the first training step; before it, each batch has its own."""
        if int(self.step) == 0:
            if not self.learns():
                return None, None
            sides = ((s, self.memory_t), (t, self.memory_s))
            logs = [
                log_partition(x.detach(), memory, index, temperature=self.temperature)
                for x, memory in sides
            ]
            self.log_z.copy_(mean_of_exponentials(torch.stack(logs), len(s)))
        return tuple(self.log_z.exp())

    @torch.no_grad()
    def remember(self, ids: Tensor, s: Tensor, t: Tensor) -> None:
        """Turns the vectors of the samples of all ranks; of several views of one, to their mean."""
        ids, place, times = gathered(ids).unique(return_inverse=True, return_counts=True)
        for memory, x in ((self.memory_s, s), (self.memory_t, t)):
            unit = gathered(F.normalize(x))
            seen = unit.new_zeros(len(ids), self.width).index_add_(0, place, unit)
            kept = self.momentum * memory[ids] + (1 - self.momentum) * seen / times[:, None]
            memory[ids] = F.normalize(kept)
        self.step += 1


def mean_of_exponentials(logs: Tensor, rows: int) -> Tensor:
    """The logarithm of the mean over the rows of all ranks of what has these logarithms here."""
    parts = gathered(torch.stack([logs, torch.full_like(logs, math.log(rows))])[None])
    weighted = parts[:, 0] + parts[:, 1]
    return weighted.logsumexp(0) - parts[:, 1].logsumexp(0)
