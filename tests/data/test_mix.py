import numpy as np
import pytest
import torch
import torch.nn.functional as F

from limbeck.data import Augment, Loader, Mix, withhold
from limbeck.data.mix import beta, blend, box_mask, soft_targets
from limbeck.errors import LimbeckError

MIXES = [Mix(mixup=0.4), Mix(cutmix=1.0), Mix(mixup=0.2, cutmix=1.0)]


def test_b116_the_cross_entropy_of_the_mixed_row():
    student = torch.tensor([[1.0, 2.0, 0.5, -1.0]], dtype=torch.float64)
    target = soft_targets(torch.tensor([1]), torch.tensor([3]), torch.tensor([0.7]), 4)
    loss = -(target * F.log_softmax(student, dim=1)).sum(1)
    assert loss.item() == pytest.approx(1.3951819, rel=1e-6)


@pytest.mark.parametrize("mix", MIXES)
def test_b116_one_mixed_tensor_tells_its_own_target(noise, mix):
    """Each image is all of one value, that of its class, so the mean tells the shares."""
    flat = noise.labels.to(torch.uint8).view(-1, 1, 1, 1).expand(60, 1, 32, 32) * 100
    images = type(noise)(flat, noise.labels, noise.classes)
    for batch in Loader(images, 10, seed=0, mix=mix).epoch(0):
        assert batch.images.dtype == batch.target.dtype == torch.float32
        assert torch.allclose(batch.target.sum(1), torch.ones(10))
        expected = batch.target @ torch.tensor([0.0, 100.0, 200.0])
        assert torch.allclose(batch.images.mean((1, 2, 3)), expected, atol=1e-3)


@pytest.mark.parametrize("mix", MIXES)
def test_pairs_are_neighbours_and_a_last_odd_row_stays_alone(noise, mix):
    loader = Loader(noise, 15, seed=0, mix=mix)
    plain = Loader(noise, 15, seed=0)
    for mixed, clean in zip(loader.epoch(1), plain.epoch(1), strict=True):
        assert torch.equal(mixed.ids, clean.ids)
        assert torch.equal(mixed.images[14], clean.images[14].float())
        for row in range(14):
            other = row ^ 1
            low = torch.minimum(clean.images[row], clean.images[other]).float()
            high = torch.maximum(clean.images[row], clean.images[other]).float()
            assert (mixed.images[row] >= low - 1e-3).all()
            assert (mixed.images[row] <= high + 1e-3).all()


def test_withheld_rows_and_their_partners_have_no_truth(noise):
    few = withhold(noise, 30, seed=0)
    clean = torch.cat([b.target for b in Loader(few, 10, seed=0).epoch(0)]).view(-1, 2)
    soft = torch.cat([b.target for b in Loader(few, 10, seed=0, mix=MIXES[0]).epoch(0)])
    known = (clean >= 0).all(1).repeat_interleave(2)
    assert 0 < known.sum() < 60
    assert torch.allclose(soft.sum(1), known.float())


@pytest.mark.parametrize("mix", MIXES)
def test_views_and_ids_change_the_weights(noise, mix):
    images = noise.pixels[:1].expand(40, -1, -1, -1)
    target, other = torch.zeros(40).long(), torch.ones(40).long()
    given = (images, target, images, other, 2)
    _, first = mix(*given, 0, 0, torch.arange(40))
    assert len(first[:, 0].unique()) > 10
    assert not torch.equal(first, mix(*given, 0, 1, torch.arange(40))[1])
    assert torch.equal(first[7:8], mix(*(x[7:8] for x in given[:4]), 2, 0, 0, [7])[1])


def test_both_kinds_take_turns():
    dark, bright = torch.zeros(400, 1, 8, 8), torch.full((400, 1, 8, 8), 255.0)
    target = torch.zeros(400).long()
    mixed, _ = Mix(mixup=1.0, cutmix=1.0)(dark, target, bright, target, 1, 0, 0, range(400))
    pasted = ((mixed == 0) | (mixed == 255)).all(dim=3).all(dim=2).flatten()
    assert 0.4 < pasted.float().mean() < 0.6


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.5, 1.0, 2.0, 8.0])
def test_beta_has_the_moments_of_the_beta_distribution(alpha):
    drawn = beta(alpha, (np.arange(100_000) + 0.5) / 100_000)
    assert (np.diff(drawn) >= 0).all()
    assert drawn.mean() == pytest.approx(0.5, abs=1e-6)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=1e-4)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    kurtosis = ((drawn - 0.5) ** 4).mean() / drawn.var() ** 2
    assert kurtosis == pytest.approx(3 - 6 / (2 * alpha + 3), rel=1e-3)


def test_a_box_takes_its_share_and_is_clipped():
    share = box_mask(torch.tensor([0.75]), torch.tensor([[0.5, 0.5]]), 8, 8)
    assert share.sum() == 16
    corner = box_mask(torch.tensor([0.75]), torch.tensor([[0.0, 0.0]]), 8, 8)
    assert corner.nonzero().tolist() == [[0, y, x] for y in (0, 1) for x in (0, 1)]
    assert box_mask(torch.tensor([1.0]), torch.tensor([[0.5, 0.5]]), 8, 8).sum() == 0


def test_blend_weighs_the_row_and_its_partner():
    row, other = torch.tensor([[100]], dtype=torch.uint8), torch.tensor([[200]], dtype=torch.uint8)
    assert blend(row, other, torch.tensor([[0.75]])).tolist() == [[125.0]]


def test_a_mix_of_nothing_is_refused():
    with pytest.raises(LimbeckError, match="`mixup` and `cutmix` must be >= 0 and one of them"):
        Mix()
    with pytest.raises(LimbeckError, match="got -1 and 1"):
        Mix(mixup=-1, cutmix=1)


def test_mixed_images_have_no_views_to_recycle(noise):
    with pytest.raises(LimbeckError, match="mixed images have no views to recycle"):
        Loader(noise, 10, seed=0, augment=Augment(flip=True), mix=MIXES[0], views=4)
