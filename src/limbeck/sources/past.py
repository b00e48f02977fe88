"""What the student said of each sample before."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.ranks import gathered
from limbeck.signals import Batch, Signals
from limbeck.sources.data import told, within
from limbeck.sources.source import Source

MARKS = ("known", "recent")


class Past(Source):
    """The student's own past: what it said of a sample in the last training step that had it.

    In PS-KD, where each epoch has each sample once, that is the epoch before. A sample that was
    never seen is answered with the student's present signal, at which a divergence is 0 and has no
    gradient. Samples are known by the data's `ids`, in 0 ... N - 1. An image that is mixed with
    another is another sample in each pass: leave mixup and CutMix out.

    Two signals more may mask a loss: `"known"` (B,), seen before, and `"recent"` (B,), seen in the
    very last step (DLB, whose batches repeat half of the last one). The masked mean is that of the
    rows at hand: pieces of a step and ranks each have their own.

    It remembers where gradients are enabled, so that evaluation leaves no trace, and what a step
    said is answered from the next one on, which `distiller.advance` begins: pieces of a step are
    answered alike. A sample that comes several times in a step is remembered as the mean. All ranks
    remember the samples of all ranks.

    Values are rounded to `dtype`: in float16 by at most 2^-11 (0.05 %) of a value, or 3e-8, and
    what is beyond 65504 is held there. It takes `Past.bytes(samples, width)` for each signal, on
    the CPU unless told, and does not follow the distiller to another device.

    Args:
        samples: N.
        dtype: of the memory; floating.
        device: where it is.

    Raises:
        LimbeckError: no `ids` in the data, ids out of range, a signal without a row for each id or
            whose shape changes.

    Example:
        >>> from limbeck import Distiller, Match, losses, schedules
        >>> soft = Match(
        ...     losses.ps_kd,
        ...     source="past",
        ...     given={"target": "data:target"},
        ...     alpha=schedules.Linear(0, 0.8),
        ... )
        >>> distiller = Distiller(torch.nn.Linear(4, 3), {"past": Past(50_000)}, 1.0 * soft)
        >>> distiller.advance(0.0)
        >>> x, y = torch.randn(2, 4), torch.tensor([0, 1])
        >>> step = distiller(x, target=y, ids=torch.tensor([7, 3]))
        >>> Past.bytes(50_000, 100)
        10400000

    Paper:
        Kim et al., "Self-knowledge distillation with progressive refinement of targets", ICCV 2021,
        arXiv 2006.12000. Shen et al., "Self-distillation from the last mini-batch for consistency
        regularization", CVPR 2022, arXiv 2203.16172.
    """

    moves = True

    def __init__(
        self,
        samples: int,
        dtype: torch.dtype = torch.float16,
        device: torch.device | str = "cpu",
    ) -> None:
        self.samples, self.dtype, self.device = samples, dtype, torch.device(device)
        self.records: dict[str, Tensor] = {}
        self.seen = torch.zeros(samples, dtype=torch.int64)  # the last step that had it; 0: none
        self.step = 0
        self.said: list[tuple[Tensor, dict[str, Tensor]]] = []

    @staticmethod
    def bytes(samples: int, width: int, dtype: torch.dtype = torch.float16) -> int:
        """What remembering `width` numbers of each sample takes: N * (width * itemsize + 8)."""
        return samples * (width * dtype.itemsize + 8)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        (given,) = told(batch, ["ids"], "a past")
        ids = within("ids", given, self.samples)
        now = {want: self.row_each(want, signals, len(ids)) for want in self.reads(wants)}
        seen = self.seen[ids]
        known = (seen > 0).to(given.device)
        recent = known & (seen == self.step - 1).to(given.device)
        answer = {want: self.recall(want, ids, known, x) for want, x in now.items()}
        if torch.is_grad_enabled():
            self.note(given, now)
        return {"known": known, "recent": recent, **answer}

    def reads(self, wants: Sequence[str]) -> list[str]:
        return [want for want in wants if want not in MARKS]

    def row_each(self, want: str, signals: Signals, rows: int) -> Tensor:
        """The student's present signal, detached."""
        x = signals.of("student", want).detach()
        shape = self.records[want].shape[1:] if want in self.records else x.shape[1:]
        if x.shape != (rows, *shape):
            raise LimbeckError(
                f"a past of {want!r} must be {(rows, *shape)} for {rows} ids, got {tuple(x.shape)}"
            )
        return x

    def recall(self, want: str, ids: Tensor, known: Tensor, now: Tensor) -> Tensor:
        """What was said of known samples, and of the others what is said now."""
        if want not in self.records:
            return now
        then = self.records[want][ids.to(self.device)].to(now)
        return torch.where(known.view(-1, *[1] * (now.ndim - 1)), then, now)

    def note(self, ids: Tensor, now: Mapping[str, Tensor]) -> None:
        """Keeps what all ranks say in this step until the next one."""
        rows = {want: gathered(saturated(x, self.dtype)).to(self.device) for want, x in now.items()}
        self.said.append((gathered(ids).cpu(), rows))

    def settle(self) -> None:
        """Remembers what this step has said so far; of a sample's several answers their mean."""
        if not self.said:
            return
        ids, place, times = torch.cat([ids for ids, _ in self.said]).unique(
            return_inverse=True, return_counts=True
        )
        for want in self.said[0][1]:
            x = torch.cat([rows[want] for _, rows in self.said])
            self.remember(want, ids, means(x, place, times))
        self.seen[ids] = self.step
        self.said = []

    def remember(self, want: str, ids: Tensor, x: Tensor) -> None:
        if want not in self.records:
            size = (self.samples, *x.shape[1:])
            self.records[want] = torch.zeros(size, dtype=self.dtype, device=self.device)
            self.seen.zero_()
        self.records[want][ids.to(self.device)] = x.to(self.dtype)

    def advance(self, progress: float) -> None:
        self.settle()
        self.step += 1

    def state_dict(self) -> dict[str, Tensor]:
        self.settle()
        records = {f"records.{want}": value.clone() for want, value in self.records.items()}
        return {"step": torch.tensor(self.step), "seen": self.seen.clone(), **records}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if len(state["seen"]) != self.samples:
            raise LimbeckError(
                f"the past must be one of {self.samples} samples, got {len(state['seen'])}"
            )
        self.step, self.seen, self.said = int(state["step"]), state["seen"].clone(), []
        self.records = {
            name.removeprefix("records."): value.to(self.device, self.dtype, copy=True)
            for name, value in state.items()
            if name.startswith("records.")
        }


def saturated(x: Tensor, dtype: torch.dtype) -> Tensor:
    """In a smaller precision, finite values held in its range; infinite ones stay.

    >>> saturated(torch.tensor([1e5, -float("inf")]), torch.float16)
    tensor([65504.,   -inf], dtype=torch.float16)
    """
    most = torch.finfo(dtype).max
    if most < torch.finfo(x.dtype).max:
        x = torch.where(x.isinf(), x, x.clamp(-most, most))
    return x.to(dtype)


def means(x: Tensor, place: Tensor, times: Tensor) -> Tensor:
    """The mean of the rows that have one place, for each place; (n, ...), at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    place, times = place.to(x.device), times.to(x.device)
    total = x.new_zeros(len(times), *x.shape[1:]).index_add_(0, place, x)
    return total / times.view(-1, *[1] * (x.ndim - 1))
