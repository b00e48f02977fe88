"""All images in one view, as a training sees them there."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from limbeck.data.augment import Augment
from limbeck.data.images import Images
from limbeck.data.loader import ImageBatch
from limbeck.data.stream import Key, Stream


def in_view(
    images: Images,
    ids: Tensor,
    view: int,
    batch_size: int,
    *,
    seed: int,
    augment: Augment | None = None,
    strong: Augment | None = None,
    workers: int = 0,
) -> Iterator[ImageBatch]:
    """The images `ids` in a view, in that order: what a `Loader` with these settings shows there.

    >>> images = Images(torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(3).long(), ("a",))
    >>> [batch.ids.tolist() for batch in in_view(images, torch.arange(3), 0, 2, seed=0)]
    [[0, 1], [2]]
    """
    how = augment if strong is None or view % 2 else strong
    shown = functools.partial(batch, images, ids, view, batch_size, seed, how)
    stream = Stream(shown, 0 if images.in_memory else workers)
    return stream((0, start) for start in range(0, len(ids), batch_size))


def batch(
    images: Images,
    ids: Tensor,
    view: int,
    batch_size: int,
    seed: int,
    how: Augment | None,
    key: Key,
) -> ImageBatch:
    rows = ids[key[1] : key[1] + batch_size]
    views = torch.full_like(rows, view)
    pixels = images.fetch(rows) if how is None else images.augmented(rows, how, seed, views)
    return ImageBatch(pixels, images.labels[rows], rows, views)
