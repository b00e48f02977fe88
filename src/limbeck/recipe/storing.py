"""Stores of what a recipe's teacher says: written, verified, planned."""

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from limbeck.data import Images
from limbeck.recipe.about import views_of
from limbeck.recipe.build import loader_of
from limbeck.recipe.labelling import BATCH, Labelling, labelling
from limbeck.recipe.schema import Recipe
from limbeck.store import Codec, Kept, Store, Writer, by_number, summary
from limbeck.store.codec import Draws
from limbeck.store.errors import Error, pooled
from limbeck.store.places import Place
from limbeck.store.sparse import drawn_anew, others
from limbeck.store.store import same_store
from limbeck.store.writer import draws_of
from limbeck.train.ranks import Ranks

SAMPLE = 256


def write_store(
    recipe: Recipe, place: Place, codecs: Mapping[str, Codec], name: str = "teacher"
) -> Store | None:
    """Stores what a teacher says of every training image in every view; goes on where it stopped.

    Under torchrun the ranks share the work and own their shards; none waits for another, so that
    the first returns the store as it is when its own share is done.

    Raises:
        LimbeckError: as `labelling`; a store of another teacher, of other images or views.
    """
    ranks = of_torchrun()
    work = labelling(recipe, name, ranks)
    try:
        work.source.check(list(codecs))
        with Writer(place, work.about, codecs, seed=seed_of_draws(work.about)) as writer:
            for view in range(views_of(recipe)):
                label(work, view, writer, ranks)
    finally:
        work.close()
    return Store(place) if ranks.first else None


def seed_of_draws(about: Mapping[str, Any]) -> int:
    """What codecs draw classes from: that of the views, so that a store says it."""
    return about["views"]["seed"]


def of_torchrun() -> Ranks:
    """This process's place among those that torchrun started, which need not be connected."""
    told = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    return Ranks(*(int(os.environ.get(name, alone)) for name, alone in told.items()))


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
) -> tuple[Error, bool]:
    """Reads every byte of a store, and asks the teacher anew about some of its rows.

    Returns:
        By signal, how far what is stored is from what the teacher says now, with the share of
        drawn classes that are others when they are drawn again; and whether that is much as it was
        when the store was written, and much less than samples are apart.

    Raises:
        LimbeckError: bytes that were changed; another teacher, other images or views.
    """
    store, work = Store(place), labelling(recipe, name)
    try:
        same_store(f"{place}", store.about, work.about)
        for shard in store.shards:
            shard.checked()
        found, apart = compared(store, work, samples)
    finally:
        work.close()
    before = summary(store).error
    return found, all(alike(found[n], before.get(n, {}), apart[n]) for n in found)


def compared(store: Store, work: Labelling, samples: int) -> tuple[Error, Error]:
    """The errors of some rows, and how far the rows of two samples are apart on average."""
    chosen = np.random.default_rng(0).choice(len(store), min(samples, len(store)), replace=False)
    keys, views = (store.rows.own(part, np.sort(chosen)) for part in ("key", "view"))
    errors, apart = list[tuple[int, Error]](), list[tuple[int, Error]]()
    for view in np.unique(views):
        ids = torch.from_numpy(keys[views == view, 0].astype(np.int64))
        for batch, exact in work.answers(int(view), ids, list(store.kept)):
            rows, n = by_number(batch.ids.numpy()), len(batch.ids)
            stored = store.read(rows, batch.view.numpy())
            draws = draws_of(seed_of_draws(work.about), rows, batch.view.numpy(), np.arange(n))
            pairs = {
                name: gap(kept, exact[name].float().cpu(), ends(name, kept, stored), draws)
                for name, kept in store.kept.items()
            }
            errors.append((n, {name: found for name, (found, _) in pairs.items()}))
            apart.append((n, {name: other for name, (_, other) in pairs.items()}))
    return pooled(errors), pooled(apart)


def alike(
    now: Mapping[str, float], before: Mapping[str, float], apart: Mapping[str, float]
) -> bool:
    """Whether an error is what a codec loses, and not that of other rows."""
    worst = max(10 * before.get("mean", 0.0), apart["mean"] / 4)
    return (
        now.get("mean", 0.0) <= worst
        and now.get("wrong", 0.0) <= before.get("wrong", 0.0) + 0.05
        and now.get("redrawn", 0.0) <= apart.get("redrawn", 0.0) / 4
    )


def ends(name: str, kept: Kept, stored: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What is left of a signal, by the ends of its names."""
    return {end: stored[name + end] for end in kept.codec.gives}


def gap(
    kept: Kept, exact: torch.Tensor, stored: Mapping[str, torch.Tensor], draws: Draws
) -> tuple[dict[str, float], dict[str, float]]:
    """What is lost of rows (R, ...), and what would be if each were that of the next one."""
    lost = kept.codec.error(exact, stored)
    apart = {"mean": float((exact - exact.roll(1, 0)).abs().nanmean())}
    again = drawn_anew(kept.codec, exact, draws)
    if again is None:
        return lost, apart
    classes = kept.shape[-1]
    lost = lost | {"redrawn": others(stored[".index"], again, classes)}
    return lost, apart | {"redrawn": others(again.roll(1, 0), again, classes)}


def plan_store(
    recipe: Recipe, codecs: Mapping[str, Codec], name: str = "teacher"
) -> dict[str, Any]:
    """What a store would take, from one batch: bytes, the teacher's seconds, when it pays.

    The teacher is asked once for each image and view; a training with the teacher alive asks it for
    every image of every step. So `runs` trainings cost as much as the store does.
    """
    work = labelling(recipe, name)
    try:
        work.source.check(list(codecs))
        ids = torch.arange(min(len(work.images), BATCH))
        list(work.answers(0, ids, list(codecs)))
        begun = time.perf_counter()
        (_, signals), *_ = work.answers(0, ids, list(codecs))
        a_row = (time.perf_counter() - begun) / BATCH
    finally:
        work.close()
    shapes = {n: tuple(signals[n].shape[1:]) for n in codecs}
    for n, codec in codecs.items():
        codec.check(shapes[n])
    bytes_a_row = {n: codec.bytes(shapes[n]) for n, codec in codecs.items()}
    rows, live = len(work.images) * views_of(recipe), asked_live(recipe, work.images)
    return {
        "rows": rows,
        "bytes_a_row": bytes_a_row,
        "bytes": round(rows * (sum(bytes_a_row.values()) + 20)),
        "seconds": a_row * rows,
        "live_seconds_a_run": a_row * live,
        "runs": rows / live,
    }


def asked_live(recipe: Recipe, images: Images) -> int:
    """How many images a training shows its teacher."""
    steps = len(loader_of(recipe, images, Ranks(), recipe.train)) * recipe.train.epochs
    steps = min(steps, recipe.train.max_steps or steps)
    return steps * recipe.train.batch_size
