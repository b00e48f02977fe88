"""A source that is asked once for each sample and view, and remembers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.signals import Batch, Signals
from limbeck.sources.source import Source


class Recorded(Source):
    """Remembers a source's signals by sample id and view, in float32 on the CPU.

    The first time that a sample is seen in a view the source answers; from then on the record does,
    whatever the order, the batch size and the ranks. The data must say `ids` and `view` (int64,
    one a row), and a view of a sample must always be the same image.

    Args:
        source: who is asked.
        samples: how many samples there are.
        views: how many views of each are recycled.

    Raises:
        LimbeckError: a batch without ids or view, ids or views out of range.
    """

    def __init__(self, source: Source, *, samples: int, views: int = 1) -> None:
        self.source, self.samples, self.views = source, samples, views
        self.records: dict[str, Tensor] = {}
        self.known = torch.zeros(views * samples, dtype=torch.bool)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        rows = self.rows(batch)
        if not self.records.keys() >= set(wants) or not bool(self.known[rows].all()):
            self.record(rows, self.source(batch, signals, wants))
        device = batch.data["ids"].device
        return {want: self.records[want][rows].to(device) for want in wants}

    def rows(self, batch: Batch) -> Tensor:
        """Where the batch's samples stand in the record."""
        missing = [name for name in ("ids", "view") if name not in batch.data]
        if missing:
            raise LimbeckError(
                f"a recorded source needs {missing} in the data; pass ids= and view="
            )
        ids, view = (batch.data[name].cpu() for name in ("ids", "view"))
        for name, values, limit in (("ids", ids, self.samples), ("view", view, self.views)):
            if bool(((values < 0) | (values >= limit)).any()):
                raise LimbeckError(f"{name} must be in 0..{limit - 1}, got {values.tolist()}")
        return view * self.samples + ids

    def record(self, rows: Tensor, answer: Mapping[str, Tensor]) -> None:
        """Keeps what the source said for the rows that are not known yet."""
        fresh = answer.keys() - self.records.keys()
        for want in fresh:
            shape = (len(self.known), *answer[want].shape[1:])
            self.records[want] = torch.zeros(shape)
        if fresh:
            self.known.zero_()
        new = ~self.known[rows]
        for want, value in answer.items():
            self.records[want][rows[new]] = value.detach()[new.to(value.device)].float().cpu()
        self.known[rows] = True

    def check(self, wants: Sequence[str]) -> None:
        self.source.check(wants)

    def modules(self) -> list[nn.Module]:
        return self.source.modules()

    def state_dict(self) -> dict[str, Tensor]:
        return {"known": self.known, **self.records}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if state["known"].shape != self.known.shape:
            raise LimbeckError(
                f"the record must hold {self.views} views of {self.samples} samples, "
                f"got {len(state['known'])} rows"
            )
        self.known = state["known"].clone()
        self.records = {name: value for name, value in state.items() if name != "known"}
