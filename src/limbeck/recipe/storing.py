"""Stores of what a recipe's teacher says: written, verified, planned."""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from limbeck.recipe.about import views_of
from limbeck.recipe.labelling import BATCH, Labelling, labelling
from limbeck.recipe.schema import Recipe
from limbeck.store import Codec, Kept, Store, Writer, by_number
from limbeck.store.errors import Error, pooled
from limbeck.store.place import Place
from limbeck.store.store import same_store
from limbeck.train.ranks import Ranks, joined

SAMPLE = 256


def write_store(
    recipe: Recipe, place: Place, codecs: Mapping[str, Codec], name: str = "teacher"
) -> Store | None:
    """Stores what a teacher says of every training image in every view; goes on where it stopped.

    Under torchrun the ranks share the work and own their shards; the first returns the store when
    all are done.

    Raises:
        LimbeckError: as `labelling`; a store of another teacher, of other images or views.
    """
    with joined() as ranks:
        work = labelling(recipe, name)
        work.source.check(list(codecs))
        with Writer(place, work.about, codecs, seed=recipe.seed) as writer:
            for view in range(views_of(recipe)):
                label(work, view, writer, ranks)
        ranks.wait()
        return Store(place) if ranks.first else None


def label(work: Labelling, view: int, writer: Writer, ranks: Ranks) -> None:
    """Writes this rank's share of the rows of a view that are not there yet."""
    mine = np.arange(ranks.rank, len(work.images), ranks.world)
    ids = torch.from_numpy(mine[~writer.known(by_number(mine), np.full(len(mine), view))])
    told = tqdm(
        work.answers(view, ids, list(writer.codecs)),
        f"view {view}",
        -(-len(ids) // BATCH),
        disable=None if ranks.first and len(ids) else True,
        leave=False,
    )
    for batch, signals in told:
        writer.add(by_number(batch.ids.numpy()), batch.view.numpy(), signals)


def verify_store(
    recipe: Recipe, place: Place, samples: int = SAMPLE, name: str = "teacher"
) -> Error:
    """Reads every byte of a store, and asks the teacher anew about some of its rows.

    Returns:
        By signal, how far what is stored is from what the teacher says now.

    Raises:
        LimbeckError: bytes that were changed; another teacher, other images or views.
    """
    store, work = Store(place), labelling(recipe, name)
    same_store(f"{place}", store.about, work.about)
    for shard in store.shards:
        shard.checked()
    chosen = np.random.default_rng(0).choice(len(store), min(samples, len(store)), replace=False)
    keys, views = (store.rows.own(part, np.sort(chosen)) for part in ("key", "view"))
    errors: list[tuple[int, Error]] = []
    for view in np.unique(views):
        ids = torch.from_numpy(keys[views == view, 0].astype(np.int64))
        for batch, exact in work.answers(int(view), ids, list(store.kept)):
            stored = store.read(by_number(batch.ids.numpy()), batch.view.numpy())
            gaps = {n: gap(n, kept, exact[n], stored) for n, kept in store.kept.items()}
            errors.append((len(batch.ids), gaps))
    return pooled(errors)


def gap(
    name: str, kept: Kept, exact: torch.Tensor, stored: Mapping[str, torch.Tensor]
) -> dict[str, float]:
    """What a codec has lost of a signal that is known exactly."""
    return kept.codec.error(
        exact.float().cpu(), {end: stored[name + end] for end in kept.codec.gives}
    )


def plan_store(
    recipe: Recipe, codecs: Mapping[str, Codec], name: str = "teacher"
) -> dict[str, Any]:
    """What a store would take, from one batch: bytes, the teacher's seconds, when it pays.

    The teacher is asked once for each image and view; a training with the teacher alive asks it
    once for each image and epoch. So `runs` trainings cost as much as the store does.
    """
    work = labelling(recipe, name)
    ids = torch.arange(min(len(work.images), BATCH))
    rows = len(work.images) * views_of(recipe)
    list(work.answers(0, ids, list(codecs)))
    begun = time.perf_counter()
    (_, signals), *_ = work.answers(0, ids, list(codecs))
    a_row = (time.perf_counter() - begun) / len(ids)
    bytes_a_row = {n: codec.bytes(tuple(signals[n].shape[1:])) for n, codec in codecs.items()}
    live = a_row * len(work.images) * recipe.train.epochs
    return {
        "rows": rows,
        "bytes_a_row": bytes_a_row,
        "bytes": round(rows * (sum(bytes_a_row.values()) + 20)),
        "seconds": a_row * rows,
        "live_seconds_a_run": live,
        "runs": a_row * rows / live,
    }
