"""A source that reads a store instead of asking a teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import LimbeckError, close
from limbeck.signals import Batch, Signals
from limbeck.sources import Source
from limbeck.sources.data import told
from limbeck.store.keys import Keys, Views, by_content, by_number
from limbeck.store.store import Store


class Stored(Source):
    """What a teacher said of each sample in each view, from a store.

    The data must say `ids` and `view` (int64, one a row), as for `Recorded`, unless `keys` says how
    rows are found; `of_tokens` finds texts by their token ids. Which signals there
    are depends on how they are kept: whole ones have the teacher's own name, and of outputs that
    are kept in part there are `"output.index"` and `"output.log_p"`, for `losses.sparse_kl`.

    Args:
        store: the store.
        keys: of a batch, its rows' keys and views.

    Raises:
        LimbeckError: a signal that is not kept, or not whole; a row that is not there.

    Example:
        >>> from limbeck import Match, losses
        >>> kept = {"index": "teacher:output.index"}
        >>> Match(losses.sparse_kl, theirs="output.log_p", given=kept).parts()
        ['sparse_kl']
    """

    early = True

    def __init__(
        self, store: Store, keys: Callable[[Batch], tuple[Keys, Views]] | None = None
    ) -> None:
        self.store, self.owners, self.keys = store, store.signals(), keys or of_numbers

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        keys, views = self.keys(batch)
        found = self.store.read(keys, views, list(dict.fromkeys(self.owners[w] for w in wants)))
        return {want: found[want].to(device_of(batch)) for want in wants}

    def state_dict(self) -> dict[str, Tensor]:
        """Which store it is, so that a run does not go on from another one."""
        return {"store": self.store.identity()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        if not state["store"].equal(self.store.identity()):
            raise LimbeckError(
                f"{self.store.place} is about something else than the store that this run began "
                "with; bring that back, or train in a new folder"
            )

    def check(self, wants: Sequence[str]) -> None:
        for want in wants:
            if want in self.owners:
                continue
            parts = [name for name in self.owners if name.startswith(f"{want}.")]
            if parts:
                raise LimbeckError(
                    f"{self.store.place} keeps of {want!r} only {parts}; use losses.sparse_kl, or "
                    "write a store that keeps it whole"
                )
            raise LimbeckError(
                f"{self.store.place} gives {list(self.owners)}, got {want!r}"
                f"{close(want, self.owners)}; write a store that keeps it"
            )


def of_numbers(batch: Batch) -> tuple[Keys, Views]:
    """Samples by their numbers, in the views that the data says."""
    ids, view = told(batch, ["ids", "view"], "a stored source")
    return by_number(ids.cpu().numpy()), view.cpu().numpy()


def of_tokens(batch: Batch) -> tuple[Keys, Views]:
    """Texts by their token ids: the inputs' `input_ids` where their `attention_mask` is not 0.

    Raises:
        LimbeckError: inputs that are no mapping with `input_ids`.
    """
    if not isinstance(batch.inputs, Mapping) or "input_ids" not in batch.inputs:
        raise LimbeckError("texts are found by inputs={'input_ids': ..., 'attention_mask': ...}")
    ids = batch.inputs["input_ids"].cpu()
    mask = batch.inputs.get("attention_mask")
    real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask.cpu().bool()
    texts = [row[inside].numpy() for row, inside in zip(ids, real, strict=True)]
    return by_content(texts), torch.zeros(len(ids), dtype=torch.int64).numpy()


def device_of(batch: Batch) -> torch.device:
    """Where the batch's tensors are."""
    inputs = batch.inputs
    values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    found = [x for x in (*values, *batch.data.values()) if isinstance(x, Tensor)]
    return found[0].device if found else torch.device("cpu")
