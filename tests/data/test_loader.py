from itertools import islice

import pytest
import torch

from limbeck.data import Augment, Images, Loader, Mix, in_order, open_folder, withhold
from limbeck.data.plan import Plan
from limbeck.errors import LimbeckError

AUGMENT = Augment(crop=2, flip=True, randaugment=(1, 9))


def equal(a, b) -> bool:
    fields = ("images", "target", "ids", "view")
    return all(torch.equal(getattr(a, f), getattr(b, f)) for f in fields)


def test_an_epoch_holds_every_sample_once_and_epochs_differ(noise):
    loader = Loader(noise, 10, seed=0)
    first, second = (torch.cat([b.ids for b in loader.epoch(e)]) for e in range(2))
    assert len(loader) == 6
    assert first.sort().values.tolist() == list(range(60))
    assert not torch.equal(first, second)


def test_images_and_targets_are_those_of_the_ids(noise):
    for batch in Loader(noise, 10, seed=0).epoch(3):
        assert torch.equal(batch.images, noise.pixels[batch.ids])
        assert torch.equal(batch.target, noise.labels[batch.ids])
        assert (batch.view == 3).all()


def test_b101_pixels_are_a_function_of_id_and_view(noise):
    """Other batch sizes, steps and orders: the same sample in the same view is the same image."""
    seen: dict[tuple[int, int], torch.Tensor] = {}
    for size in (4, 10, 60):
        for epoch in range(3):
            for batch in Loader(noise, size, seed=5, augment=AUGMENT).epoch(epoch):
                for i, v, image in zip(batch.ids, batch.view, batch.images, strict=True):
                    known = seen.setdefault((int(i), int(v)), image)
                    assert torch.equal(known, image)
    assert len(seen) == 180


@pytest.mark.parametrize("views", [1, 3])
def test_recycled_views_repeat_the_pixels(noise, views):
    loader = Loader(noise, 60, seed=0, augment=AUGMENT, views=views)
    by_epoch = []
    for epoch in range(2 * views):
        (batch,) = loader.epoch(epoch)
        assert (batch.view == epoch % views).all()
        by_epoch.append(batch.images[batch.ids.argsort()])
    for epoch in range(views):
        assert torch.equal(by_epoch[epoch], by_epoch[epoch + views])
    assert len({images.numpy().tobytes() for images in by_epoch}) == views


def test_resuming_inside_an_epoch_goes_on_with_the_same_batches(noise):
    fresh = list(Loader(noise, 7, seed=1, augment=AUGMENT).epoch(2))
    resumed = list(Loader(noise, 7, seed=1, augment=AUGMENT).epoch(2, start=5))
    assert len(fresh) == 8
    assert all(equal(a, b) for a, b in zip(fresh[5:], resumed, strict=True))


@pytest.mark.parametrize("mix", [None, Mix(mixup=0.2, cutmix=1.0)])
@pytest.mark.parametrize("world", [2, 4, 12])
def test_ranks_share_the_global_batch(noise, world, mix):
    whole = Loader(noise, 12, seed=0, augment=AUGMENT, mix=mix)
    ranks = [
        Loader(noise, 12, seed=0, augment=AUGMENT, mix=mix, rank=r, world=world)
        for r in range(world)
    ]
    for step, batch in enumerate(whole.epoch(1)):
        shares = [next(rank.epoch(1, start=step)) for rank in ranks]
        assert {len(share.ids) for share in shares} == {12 // world}
        for name in ("images", "target", "ids", "view"):
            joined = torch.cat([getattr(share, name) for share in shares])
            assert torch.equal(joined, getattr(batch, name))


def test_what_does_not_fill_a_batch_is_left_out_but_a_small_set_is_a_batch(noise):
    assert [len(b.ids) for b in Loader(noise, 25, seed=0).epoch(0)] == [25, 25]
    assert [len(b.ids) for b in Loader(noise, 100, seed=0).epoch(0)] == [60]


def test_labels_alone_take_as_many_steps_and_images(noise):
    few = withhold(noise, 9, seed=0)
    everything = Loader(few, 10, seed=0)
    loader = Loader(few, 10, seed=0, labelled_only=True, steps_per_epoch=len(everything))
    drawn = [batch for epoch in range(3) for batch in loader.epoch(epoch)]
    ids = torch.cat([b.ids for b in drawn])
    assert len(loader) == len(everything) == 6
    assert len(ids) == 180
    assert set(ids.tolist()) == set(few.labelled.tolist())
    assert torch.bincount(ids)[few.labelled].tolist() == [20] * 9
    assert all((b.target >= 0).all() for b in drawn)


def test_each_pass_over_the_labels_has_its_own_order_and_view(noise):
    few = withhold(noise, 9, seed=0)
    loader = Loader(few, 10, seed=0, labelled_only=True, steps_per_epoch=9, augment=AUGMENT)
    drawn = list(loader.epoch(0))
    ids, view = (torch.cat([getattr(b, name) for b in drawn]) for name in ("ids", "view"))
    assert view.tolist() == [i // 9 for i in range(90)]
    passes = {tuple(row) for row in ids.view(10, 9).tolist()}
    assert len(passes) == 10
    assert {tuple(sorted(row)) for row in passes} == {tuple(few.labelled.tolist())}
    one = ids == ids[0]
    assert len({row.numpy().tobytes() for row in torch.cat([b.images for b in drawn])[one]}) > 5


def test_labels_alone_resume_and_recycle(noise):
    few = withhold(noise, 9, seed=0)
    given = {"seed": 0, "labelled_only": True, "steps_per_epoch": 5, "views": 2, "augment": AUGMENT}
    whole = list(Loader(few, 4, **given).epoch(3))
    assert equal(whole[3], next(Loader(few, 4, **given).epoch(3, start=3)))
    assert set(torch.cat([b.view for b in whole]).tolist()) == {0, 1}


def test_a_plan_with_steps_runs_through_passes_without_gap():
    plan = Plan(samples=5, batch_size=3, seed=0, steps_per_epoch=2)
    rows = [plan.batch(e, s) for e in range(5) for s in range(2)]
    positions = [p for batch, _ in rows for p in batch.tolist()]
    assert [p for _, passes in rows for p in passes.tolist()] == [i // 5 for i in range(30)]
    for i in range(0, 30, 5):
        assert sorted(positions[i : i + 5]) == list(range(5))


def test_evaluation_sees_all_images_as_they_are(noise):
    batches = list(in_order(noise, 25))
    assert [len(b.ids) for b in batches] == [25, 25, 10]
    assert torch.equal(torch.cat([b.images for b in batches]), noise.pixels)
    assert torch.equal(torch.cat([b.target for b in batches]), noise.labels)
    assert torch.cat([b.ids for b in batches]).tolist() == list(range(60))
    assert all((b.view == -1).all() for b in batches)


@pytest.fixture
def on_disk(make_folder) -> Images:
    return open_folder(make_folder(width=40, height=30, a=5, b=4), image_size=16, memory=0)


def test_b101_workers_change_nothing(on_disk):
    """Two epochs, the first left early, from the same two processes; no global generator moves."""
    given = {"seed": 0, "augment": Augment(resized_crop=(0.2, 1.0), flip=True)}
    alone, helped = Loader(on_disk, 2, **given), Loader(on_disk, 2, **given, workers=2)
    state = torch.get_rng_state()
    left_early = list(islice(helped.epoch(0), 2))
    assert all(equal(a, b) for a, b in zip(alone.epoch(0), left_early, strict=False))
    for start in (0, 2):
        pairs = zip(alone.epoch(1, start), helped.epoch(1, start), strict=True)
        assert all(equal(a, b) for a, b in pairs)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_unreadable_image_stays_one_line_in_a_worker(on_disk):
    on_disk.pixels.path(3).write_bytes(b"")
    with pytest.raises(LimbeckError, match=r"^\S*3\.jpg must be an image, but is empty[^\n]*$"):
        list(in_order(on_disk, 3, workers=1))


def test_sets_in_memory_start_no_workers(noise):
    assert Loader(noise, 10, seed=0, workers=2).stream.loader is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be at least 1, got 0"),
        ({"world": 3}, "`batch_size` must divide by the number of ranks, got 10 rows for 3"),
        ({"batch_size": 64, "world": 7}, "got 60 rows for 7 ranks"),
        ({"views": 0}, "`views` must be at least 1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be at least 1, got 0"),
    ],
)
def test_numbers_that_make_no_batch(noise, given, message):
    with pytest.raises(LimbeckError, match=message):
        Loader(noise, **{"batch_size": 10, "seed": 0, **given})


def test_no_labels_no_training_on_labels(noise):
    bare = Images(noise.pixels, torch.full_like(noise.labels, -100), noise.classes)
    with pytest.raises(LimbeckError, match="at least one sample to train on"):
        Loader(bare, 10, seed=0, labelled_only=True)
    with pytest.raises(LimbeckError, match="`batch_size` must be at least 1"):
        in_order(noise, 0)


def test_workers_must_be_counted(on_disk):
    with pytest.raises(LimbeckError, match="`workers` must be at least 0, got -1"):
        Loader(on_disk, 2, seed=0, workers=-1)
