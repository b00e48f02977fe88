"""Batches of which half come again in the next one."""

from itertools import pairwise

import pytest
import torch

from limbeck.data import Augment, ImageBatch, Loader

EPOCHS = 3


def halves(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = values.chunk(2)
    return first, second


def batches(loader: Loader) -> list[ImageBatch]:
    return [batch for epoch in range(EPOCHS) for batch in loader.epoch(epoch)]


@pytest.mark.parametrize("labelled_only", [False, True])
def test_the_second_half_is_the_first_of_the_batch_before(noise, labelled_only) -> None:
    """Over the ends of epochs too, where passes may have no end of their own."""
    endless = {"labelled_only": True, "steps_per_epoch": 7} if labelled_only else {}
    found = batches(Loader(noise, 12, seed=3, pairs="last", **endless))
    (one, two), *rest = (halves(batch.ids) for batch in found)
    assert torch.equal(one, two)
    last = one
    for new, repeated in rest:
        assert torch.equal(repeated, last)
        last = new


def test_an_image_comes_again_in_another_view(noise) -> None:
    found = batches(Loader(noise, 12, seed=3, augment=Augment(crop=2, flip=True), pairs="last"))
    for before, batch in pairwise(found):
        assert torch.equal(halves(before.view)[0] + 1, halves(batch.view)[1])
        assert not torch.equal(halves(before.images)[0], halves(batch.images)[1])


def test_each_image_is_new_once_in_an_epoch(noise) -> None:
    loader = Loader(noise, 12, seed=3, pairs="last")
    new = torch.cat([halves(batch.ids)[0] for batch in loader.epoch(1)])
    assert new.sort().values.tolist() == list(range(len(noise)))


def test_ranks_share_both_halves_and_going_on_is_never_having_stopped(noise) -> None:
    whole = list(Loader(noise, 12, seed=1, pairs="last").epoch(1))
    ranks = [Loader(noise, 12, seed=1, pairs="last", rank=r, world=2) for r in range(2)]
    for step, batch in enumerate(whole):
        shares = [halves(next(rank.epoch(1, step)).ids) for rank in ranks]
        for k, half in enumerate(halves(batch.ids)):
            assert torch.equal(half, torch.cat([share[k] for share in shares]))
