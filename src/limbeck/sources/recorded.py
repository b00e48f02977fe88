"""A source that is asked once for each sample and view, and remembers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from limbeck.checkpoint import atomic
from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals
from limbeck.sources.data import told, within
from limbeck.sources.frozen import as_source
from limbeck.sources.source import Source


class Recorded(Source):
    """Remembers a source's signals by sample id and view, in float32 on the CPU.

    The first time that a sample is seen in a view the source answers; from then on the record does,
    whatever the order, the batch size and the ranks. The data must say `ids` and `view` (int64,
    one a row), and a view of a sample must always be the same image.

    Args:
        source: who is asked; a plain module is `Frozen`.
        samples: how many samples there are.
        views: how many views of each are recycled.

    Raises:
        LimbeckError: a source that changes with training, a batch without ids or view, ids or views
            out of range.
    """

    def __init__(
        self, source: nn.Module | Reader | Source, *, samples: int, views: int = 1
    ) -> None:
        self.source, self.samples, self.views = as_source("source", source), samples, views
        if self.source.moves:
            raise LimbeckError(
                f"a record would outlive what it is of: {type(self.source).__name__} changes with "
                "training; leave Recorded out"
            )
        self.early = self.source.early
        self.records: dict[str, Tensor] = {}
        self.known = torch.zeros(views, samples, dtype=torch.bool)

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        rows = self.rows(batch)
        if not self.records.keys() >= set(wants) or not bool(self.known[rows].all()):
            everything = list(dict.fromkeys([*self.records, *wants]))
            self.record(rows, self.source(batch, signals, everything))
        device = batch.data["ids"].device
        return {want: self.records[want][rows].to(device) for want in wants}

    def rows(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Where the batch's samples stand in the record: view and id of each."""
        ids, view = told(batch, ["ids", "view"], "a recorded source")
        ids = within("ids", ids, self.samples)
        return within("view", view, self.views), ids

    def record(self, rows: tuple[Tensor, Tensor], answer: Mapping[str, Tensor]) -> None:
        """Keeps what the source said for the rows that are not known yet."""
        fresh = answer.keys() - self.records.keys()
        for want in fresh:
            self.records[want] = torch.zeros(*self.known.shape, *answer[want].shape[1:])
        if fresh:
            self.known.zero_()
        new = ~self.known[rows]
        view, ids = rows
        for want, value in answer.items():
            fresh_rows = value.detach()[new.to(value.device)].float().cpu()
            self.records[want][view[new], ids[new]] = fresh_rows
        self.known[rows] = True

    def save(self, path: Path, made_by: str) -> None:
        """Writes the record; `made_by` says what it is the record of."""
        with atomic(path) as temporary:
            temporary.write_bytes(save(self.state_dict(), metadata={"made_by": made_by}))

    def load(self, path: Path, made_by: str) -> None:
        """Reads a record that was made in the same way.

        Raises:
            LimbeckError: a damaged record, one of another teacher, of other images or views.
        """
        try:
            with safe_open(path, "pt") as file:
                theirs = file.metadata()["made_by"]
                state = {name: file.get_tensor(name) for name in list(file.keys())}
        except SafetensorError as error:
            raise LimbeckError(f"{path} must be a whole record: {error}; remove it") from error
        if theirs != made_by:
            raise LimbeckError(
                f"{path} must be a record of {made_by}, but it is one of {theirs}; remove it"
            )
        self.load_state_dict(state)

    def check(self, wants: Sequence[str]) -> None:
        self.source.check(wants)

    def reads(self, wants: Sequence[str]) -> list[str]:
        return self.source.reads(wants)

    def advance(self, progress: float) -> None:
        self.source.advance(progress)

    def modules(self) -> list[nn.Module]:
        return self.source.modules()

    def state_dict(self) -> dict[str, Tensor]:
        return {"known": self.known.clone(), **self.records}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if state["known"].shape != self.known.shape:
            raise LimbeckError(
                f"the record must hold {self.views} views of {self.samples} samples, "
                f"got {' views of '.join(map(str, state['known'].shape))}"
            )
        self.records = {name: value.clone() for name, value in state.items()}
        self.known = self.records.pop("known")
