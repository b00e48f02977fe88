"""Batches for training and evaluation, the same with any number of workers or ranks."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limbeck.counters import derive
from limbeck.data.augment import Augment
from limbeck.data.images import Images
from limbeck.data.mix import Mix
from limbeck.data.pairs import Pairs, kinds_of
from limbeck.data.plan import Plan
from limbeck.data.repeats import Repeats
from limbeck.data.stream import Key, Stream
from limbeck.errors import LimbeckError


@dataclass(frozen=True)
class ImageBatch:
    """Images (B, C, H, W) in 0..255, their targets, sample ids and augmentation views.

    `target` is int64 (B,) with -100 where withheld; after mixing it is float32 (B, classes) with
    rows of zeros where withheld. Of images with several targets it is float32 (B, classes), mixed
    or not, with NaN where unknown. `ids` and `view` are int64 (B,); a view of -1 is unaugmented.
    `halves` is 2 where row i and row i + B/2 belong together. Where K students see variations of
    their own, images are (B, K, C, H, W).
    """

    images: Tensor
    target: Tensor
    ids: Tensor
    view: Tensor
    halves: int = 1


@dataclass(frozen=True)
class Assembly:
    """What makes the batch of one rank from the plan; travels to the workers."""

    images: Images
    plan: Plan | Pairs
    pool: Tensor
    seed: int
    augment: Augment | None
    strong: Augment | None
    mix: Mix | None
    views: int | None
    students: int
    rank: int
    world: int

    def __call__(self, key: Key) -> ImageBatch:
        positions, passes = (torch.from_numpy(x) for x in self.plan.batch(*key))
        ids, view = self.pool[positions], passes % self.views if self.views else passes
        halves = self.plan.halves
        mine = torch.arange(len(ids)).view(halves, -1).chunk(self.world, 1)[self.rank].flatten()
        if self.mix is None:
            ids, view = ids[mine], view[mine]
            return ImageBatch(self.pixels(ids, view), self.images.labels[ids], ids, view, halves)
        return self.mixed(mine, ids, view)

    def pixels(self, ids: Tensor, view: Tensor) -> Tensor:
        if self.strong is None:
            return self.varied(self.augment, ids, view)
        how, halves = (self.strong, self.augment), zip(ids.chunk(2), view.chunk(2), strict=True)
        return torch.cat([self.varied(one, *half) for one, half in zip(how, halves, strict=True)])

    def varied(self, augment: Augment | None, ids: Tensor, view: Tensor) -> Tensor:
        if augment is None:
            return self.images.fetch(ids)
        shown = [self.images.augmented(ids, augment, seed, view) for seed in self.seeds()]
        return shown[0] if self.students == 1 else torch.stack(shown, 1)

    def seeds(self) -> list[int]:
        """A seed for each student's own variation; the first sees what it would see alone."""
        return [self.seed, *(derive(self.seed, f"student {k}") for k in range(1, self.students))]

    def mixed(self, mine: Tensor, ids: Tensor, view: Tensor) -> ImageBatch:
        """Pairs rows 0 and 1, 2 and 3 and so on of the global batch; a last odd row stays alone."""
        assert self.mix is not None
        partner = torch.where((mine ^ 1) < len(ids), mine ^ 1, mine)
        needed, place = torch.cat([mine, partner]).unique(return_inverse=True)
        pixels, labels = self.pixels(ids[needed], view[needed]), self.images.labels[ids[needed]]
        a, b = place.chunk(2)
        ids, view = ids[mine], view[mine]
        classes, each = len(self.images.classes), pixels.shape[1:-2]
        pixels = pixels.flatten(1, -3)  # all variations of an image mix alike, as channels do
        images, target = self.mix(
            pixels[a], labels[a], pixels[b], labels[b], classes, self.seed, view, ids
        )
        return ImageBatch(images.unflatten(1, each), target, ids, view)


class Loader:
    """Shuffled, augmented batches of `images`; every choice is a function of counters.

    `batch_size` is that of all ranks together; rank r of `world` gets the r-th share of the rows.
    Variations are drawn from `seed`, or from `views_seed` where trainings of several seeds are to
    see the same. The view of a row is the number of the pass over the data (the epoch, where an
    epoch is one pass), or that modulo `views`, so that a recorded teacher can be looked up.
    `labelled_only` draws from the labelled ids alone; with `steps_per_epoch` it goes round them as
    often as it takes, so that it sees as many images as training on all. See `Plan` for the order.

    With `pairs` a batch is two halves that belong together, row by row: two views of an image, or
    two images of a class. See `Pairs`; ranks have whole pairs, and mixed images none. With "last"
    the second half are the images of the batch before: see `Repeats`. With `strong` the first half
    varies so and the second by `augment`. The first half has the even views: of recycled ones there
    must be an even number, so that a view of an image is always the same.

    With several `students` each image comes in as many variations, one for each; mixed images have
    one partner and one weight for all. What is decoded from files is so for each of them.

    `workers` processes decode sets that are not in memory. They are spawned: a script that starts
    them needs the guard `if __name__ == "__main__"`.

    >>> images = Images(torch.zeros(6, 1, 4, 4, dtype=torch.uint8), torch.zeros(6).long(), ("a",))
    >>> loader = Loader(images, 2, seed=0, augment=Augment(crop=1, flip=True))
    >>> [batch.images.shape[0] for batch in loader.epoch(0, start=1)]
    [2, 2]
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        *,
        seed: int,
        augment: Augment | None = None,
        strong: Augment | None = None,
        mix: Mix | None = None,
        views: int | None = None,
        views_seed: int | None = None,
        students: int = 1,
        pairs: Literal["view", "class", "last"] | None = None,
        labelled_only: bool = False,
        steps_per_epoch: int | None = None,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
    ) -> None:
        pool = images.labelled if labelled_only else torch.arange(len(images))
        if pairs is not None and (batch_size % 2 or mix is not None):
            raise LimbeckError(
                f"`pairs` need an even batch_size and images that are not mixed, got "
                f"batch_size={batch_size} and mix={mix}"
            )
        if strong is not None and (pairs is None or (views or 0) % 2):
            raise LimbeckError(
                f"`strong` is for the first half of `pairs`, with an even number of `views`, got "
                f"pairs={pairs!r} and views={views}"
            )
        self.plan: Plan | Pairs = Plan(
            len(pool), batch_size if pairs is None else batch_size // 2, seed, steps_per_epoch
        )
        if pairs == "last":
            self.plan = Repeats(self.plan)
        elif pairs is not None:
            kinds = kinds_of(images.labels[pool]) if pairs == "class" else None
            self.plan = Pairs(self.plan, kinds)
        if self.plan.rows % (self.plan.halves * world):
            raise LimbeckError(
                f"`batch_size` must divide by the number of ranks, got {self.plan.rows} rows for "
                f"{world} ranks{' with whole pairs' if pairs else ''}"
            )
        if views is not None and (views < 1 or mix is not None):
            raise LimbeckError(
                f"`views` must be at least 1, and mixed images have no views to recycle, got "
                f"views={views} and mix={mix}"
            )
        if students > 1 and augment is None:
            raise LimbeckError("students need an augmentation to see variations of their own")
        varied = seed if views_seed is None else views_seed
        assembly = Assembly(
            images, self.plan, pool, varied, augment, strong, mix, views, students, rank, world
        )
        self.stream = Stream(assembly, 0 if images.in_memory else workers)

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self.plan.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[ImageBatch]:
        """The batches of an epoch from step `start` on; those before it cost nothing."""
        return self.stream((epoch, step) for step in range(start, self.plan.steps))


def in_order(images: Images, batch_size: int, *, workers: int = 0) -> Iterator[ImageBatch]:
    """All images once, in order and as they are; the last batch may be smaller."""
    if batch_size < 1:
        raise LimbeckError(f"`batch_size` must be at least 1, got {batch_size}")
    stream = Stream(
        functools.partial(plain, images, batch_size), 0 if images.in_memory else workers
    )
    return stream((0, start) for start in range(0, len(images), batch_size))


def plain(images: Images, batch_size: int, key: Key) -> ImageBatch:
    ids = torch.arange(key[1], min(key[1] + batch_size, len(images)))
    return ImageBatch(images.fetch(ids), images.labels[ids], ids, torch.full_like(ids, -1))
