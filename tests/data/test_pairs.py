"""Batches of two halves that belong together: functions of counters, on ranks and in pieces."""

import pytest
import torch

from limbeck.data import Augment, Images, Loader, Mix, withhold
from limbeck.data.pairs import Pairs
from limbeck.data.plan import Plan
from limbeck.errors import LimbeckError
from limbeck.tasks import CLASSIFICATION
from limbeck.train.pieces import divided

AUGMENT = Augment(crop=2, flip=True)


def halves(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = x.chunk(2)
    return first, second


def equal(a, b) -> bool:
    fields = ("images", "target", "ids", "view")
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)


def test_two_views_of_each_image_stand_row_by_row(noise):
    loader = Loader(noise, 20, seed=0, augment=AUGMENT, pairs="view")
    for epoch in range(2):
        batches = list(loader.epoch(epoch))
        assert [len(batch.ids) for batch in batches] == [20] * 6 == [20] * len(loader)
        for batch in batches:
            ids, views = halves(batch.ids), halves(batch.view)
            assert torch.equal(*ids)
            assert bool((views[0] == 2 * epoch).all() & (views[1] == 2 * epoch + 1).all())
            assert not torch.equal(*halves(batch.images))
            assert torch.equal(batch.target, noise.labels[batch.ids])
        seen = torch.cat([halves(batch.ids)[0] for batch in batches])
        assert seen.sort().values.tolist() == list(range(60))


def test_pixels_are_those_of_id_and_view_without_pairs_too(noise):
    (alone,) = Loader(noise, 60, seed=4, augment=AUGMENT).epoch(1)
    paired = Loader(noise, 20, seed=4, augment=AUGMENT, pairs="view").epoch(0)
    known = dict(zip(alone.ids.tolist(), alone.images, strict=True))
    for batch in paired:
        second = halves(batch.images)[1]
        for i, image in zip(halves(batch.ids)[1].tolist(), second, strict=True):
            assert torch.equal(image, known[i])


def test_two_images_of_a_class_are_never_one_and_change_with_the_pass(noise):
    loader = Loader(noise, 20, seed=0, pairs="class")
    partners = []
    for epoch in range(2):
        pairs = {}
        for batch in loader.epoch(epoch):
            first, second = halves(batch.ids)
            assert torch.equal(*halves(batch.target))
            assert bool((first != second).all())
            pairs |= dict(zip(first.tolist(), second.tolist(), strict=True))
        assert sorted(pairs) == list(range(60))
        partners.append(pairs)
    assert partners[0] != partners[1]


def test_each_of_the_others_is_as_likely():
    kinds = torch.tensor([0, 1, 0, 0, 2, 1, 0])
    pairs = Pairs(Plan(7, 7, seed=3), kinds)
    counts = torch.zeros(7, 7)
    for epoch in range(600):
        positions, _ = pairs.batch(epoch, 0)
        counts[positions[:7], positions[7:]] += 1
    same = (kinds[:, None] == kinds) & ~torch.eye(7, dtype=torch.bool)
    same[4, 4] = True  # alone of its kind
    assert torch.equal(counts > 0, same)
    of_four = counts[0][counts[0] > 0]
    assert float((of_four - 200).abs().max()) < 4 * (600 * 2 / 9) ** 0.5


def test_a_batch_does_not_depend_on_what_was_drawn_before(noise):
    for pairs in ("view", "class"):
        fresh = list(Loader(noise, 14, seed=1, augment=AUGMENT, pairs=pairs).epoch(2))
        resumed = list(Loader(noise, 14, seed=1, augment=AUGMENT, pairs=pairs).epoch(2, start=5))
        assert all(map(equal, fresh[5:], resumed))
        assert len(resumed) == 3


def test_every_rank_has_whole_pairs(noise):
    for pairs in ("view", "class"):
        whole = list(Loader(noise, 12, seed=1, augment=AUGMENT, pairs=pairs).epoch(0))
        ranks = [
            list(Loader(noise, 12, seed=1, augment=AUGMENT, pairs=pairs, rank=r, world=3).epoch(0))
            for r in range(3)
        ]
        for batch, *shares in zip(whole, *ranks, strict=True):
            for k, half in enumerate(halves(batch.ids)):
                assert torch.equal(half, torch.cat([halves(share.ids)[k] for share in shares]))
            assert all(len(share.ids) == 4 for share in shares)


def test_pieces_of_a_step_have_whole_pairs():
    first, second = divided(torch.arange(12), 2, halves=2)
    assert (first.tolist(), second.tolist()) == ([0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11])
    assert [piece.tolist() for piece in divided(torch.arange(5), 2, halves=1)] == [
        [0, 1, 2],
        [3, 4],
    ]


def test_labelled_images_alone_are_paired_for_as_many_steps(noise):
    few = withhold(noise, 9, seed=0)
    loader = Loader(few, 6, seed=0, pairs="class", labelled_only=True, steps_per_epoch=20)
    batches = list(loader.epoch(0))
    assert len(batches) == 20
    seen = torch.cat([batch.ids for batch in batches])
    assert set(seen.tolist()) <= set(few.labelled.tolist())
    assert set(torch.cat([halves(batch.ids)[0] for batch in batches]).tolist()) == set(
        few.labelled.tolist()
    )


def test_recycled_views_stay_two_different_ones(noise):
    loader = Loader(noise, 20, seed=0, augment=AUGMENT, pairs="view", views=3)
    views = [tuple(int(half[0]) for half in halves(next(loader.epoch(e)).view)) for e in range(3)]
    assert views == [(0, 1), (2, 0), (1, 2)]


STRONG = Augment(crop=1, randaugment=(2, 10))


def test_the_half_that_learns_varies_strongly_and_the_other_as_it_would_alone(noise):
    loader = Loader(noise, 20, seed=4, augment=AUGMENT, strong=STRONG, pairs="view")
    plain = Loader(noise, 20, seed=4, augment=AUGMENT, pairs="view")
    for epoch in range(2):
        for batch, other in zip(loader.epoch(epoch), plain.epoch(epoch), strict=True):
            first, second = halves(batch.images)
            ids, views = halves(batch.ids)[0], halves(batch.view)[0]
            assert torch.equal(first, noise.augmented(ids, STRONG, 4, views))
            assert torch.equal(second, halves(other.images)[1])
            assert not torch.equal(first, halves(other.images)[0])


def test_without_augment_the_half_that_teaches_is_as_it_is(noise):
    batch = next(Loader(noise, 20, seed=4, strong=STRONG, pairs="view").epoch(0))
    first, second = halves(batch.images)
    assert torch.equal(second, noise.fetch(halves(batch.ids)[1]))
    assert not torch.equal(first, second)


def test_ranks_share_strong_and_weak_halves(noise):
    how = {"seed": 1, "augment": AUGMENT, "strong": STRONG, "pairs": "view"}
    whole = list(Loader(noise, 12, **how).epoch(0))
    ranks = [list(Loader(noise, 12, **how, rank=r, world=2).epoch(0)) for r in range(2)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        for k, half in enumerate(halves(batch.images)):
            assert torch.equal(half, torch.cat([halves(share.images)[k] for share in shares]))


def test_a_recycled_view_of_an_image_is_always_one_image(noise):
    loader = Loader(noise, 20, seed=4, augment=AUGMENT, strong=STRONG, pairs="view", views=4)
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for epoch in range(4):
        for batch in loader.epoch(epoch):
            for i, v, image in zip(
                batch.ids.tolist(), batch.view.tolist(), batch.images, strict=True
            ):
                assert torch.equal(seen.setdefault((i, v), image), image)
    assert len(seen) == 60 * 4


@pytest.mark.parametrize("more", [{}, {"pairs": "view", "views": 3}])
def test_strong_halves_need_pairs_and_an_even_number_of_views(noise, more):
    with pytest.raises(LimbeckError, match="`strong` is for the first half of `pairs`, with an ev"):
        Loader(noise, 12, seed=0, augment=AUGMENT, strong=STRONG, **more)


def test_the_halves_are_signals_of_pairs_alone(noise):
    batch = next(Loader(noise, 8, seed=0, pairs="class").epoch(0))
    _, data = CLASSIFICATION.signals(batch, torch.device("cpu"))
    assert data["first"].tolist() == [True] * 4 + [False] * 4
    assert data["second"].tolist() == [False] * 4 + [True] * 4
    _, data = CLASSIFICATION.signals(next(Loader(noise, 8, seed=0).epoch(0)), torch.device("cpu"))
    assert not {"first", "second"} & data.keys()


def test_what_makes_no_pairs_is_one_line(noise):
    for more in ({"batch_size": 7}, {"batch_size": 8, "mix": Mix(mixup=0.2)}):
        with pytest.raises(LimbeckError, match="an even batch_size and images that are not mixed"):
            Loader(noise, seed=0, pairs="view", **more)
    with pytest.raises(LimbeckError, match="number of ranks, got 6 rows for 2 ranks with whole"):
        Loader(noise, 6, seed=0, pairs="view", world=2)
    few = withhold(noise, 9, seed=0)
    with pytest.raises(LimbeckError, match=r"got 51 without; set data\.unlabelled: false"):
        Loader(few, 6, seed=0, pairs="class")
    pixels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    several = Images(pixels, torch.zeros(4, 2), ("a", "b"))
    with pytest.raises(LimbeckError, match="one class an image; pair views instead"):
        Loader(several, 2, seed=0, pairs="class")
