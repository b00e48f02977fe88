"""A source that reads a store instead of asking a teacher."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.errors import LimbeckError, close
from limbeck.signals import Batch, Signals
from limbeck.sources import Source
from limbeck.sources.data import told
from limbeck.store.keys import by_number
from limbeck.store.store import Store


class Stored(Source):
    """What a teacher said of each sample in each view, from a store.

    The data must say `ids` and `view` (int64, one a row), as for `Recorded`. Which signals there
    are depends on how they are kept: whole ones have the teacher's own name, and of outputs that
    are kept in part there are `"output.index"` and `"output.log_p"`, for `losses.sparse_kl`.

    Args:
        store: the store.

    Raises:
        LimbeckError: a signal that is not kept, or not whole; a row that is not there.

    Example:
        >>> from limbeck import Match, losses
        >>> kept = {"index": "teacher:output.index"}
        >>> Match(losses.sparse_kl, theirs="output.log_p", given=kept).parts()
        ['sparse_kl']
    """

    early = True

    def __init__(self, store: Store) -> None:
        self.store, self.owners = store, store.signals()

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        ids, view = told(batch, ["ids", "view"], "a stored source")
        keys, views = by_number(ids.cpu().numpy()), view.cpu().numpy()
        found = self.store.read(keys, views, list(dict.fromkeys(self.owners[w] for w in wants)))
        return {want: found[want].to(ids.device) for want in wants}

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
