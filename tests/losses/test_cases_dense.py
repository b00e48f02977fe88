"""Public bug reports about dense losses, named by their ids, and what else has gone wrong there."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from tests.losses.subject import finite, normal, same, scored
from tests.losses.subjects_dense import boxes_of, classes_of, following
from tests.losses.test_cases import MAP_S, MAP_T, right
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from limbeck import losses
from limbeck.losses import boxes, detection, segmentation
from limbeck.ops import torch as table

each = pytest.mark.parametrize
IFVD = following(partial(losses.ifvd, classes=3), "labels", classes_of)
FGD = following(partial(losses.fgd, stride=8), "boxes", boxes_of)
FGFI = following(partial(losses.fgfi, stride=8, anchors=[(16, 16)]), "boxes", boxes_of)
DEFEAT = following(partial(losses.defeat, stride=8), "boxes", boxes_of)
SCORED = following(losses.score_weighted_l2, "logits", lambda t: t)
DENSE = {
    "channelwise": losses.channelwise,
    "pairwise": losses.pairwise,
    "ifvd": IFVD,
    "cirkd": losses.cirkd,
    "pkd": losses.pkd,
    "fgfi": FGFI,
    "defeat": DEFEAT,
    "score_weighted_l2": SCORED,
}


def saved_bytes(run: Callable[[], Tensor]) -> int:
    """What the graph keeps for the backward pass, each tensor once."""
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        return kept.setdefault(x.data_ptr(), x)

    with saved_tensors_hooks(keep, lambda x: x):
        run()
    return sum(x.numel() * x.element_size() for x in kept.values())


@each("name", ["channelwise", "cirkd", "pkd", "score_weighted_l2"])
def test_b020_maps_keep_their_pixels(name: str) -> None:
    order = torch.tensor([2, 0, 3, 1])
    shuffled = [x.flatten(2)[..., order].reshape(x.shape) for x in (MAP_S, MAP_T)]
    same(DENSE[name](*shuffled), DENSE[name](MAP_S, MAP_T))


@each("name", DENSE)
def test_b052_void_pixels_do_not_matter(name: str) -> None:
    s, t = normal(3, 2, 2, 3, 4, 4)
    mask = torch.from_numpy(np.random.default_rng(3).random((2, 4, 4)) < 0.7)
    value, grad = scored(DENSE[name], s, t, mask=mask)
    void = (~mask)[:, None].expand_as(s)
    again, again_grad = scored(DENSE[name], s.masked_fill(void, torch.nan), t, mask=mask)
    same(again, value)
    same(again_grad, grad)
    assert grad[void].count_nonzero() == 0


def test_b052_labels_are_resized_by_the_nearest() -> None:
    labels = torch.tensor([[[0, 1, 255, 1], [1, 1, 1, 1], [1, 0, 0, 255], [255, 1, 1, 1]]])
    small = torch.tensor([[[0, 255], [1, 0]]])
    loss = partial(losses.ifvd, classes=2)
    same(loss(MAP_S[:1], MAP_T[:1], labels), loss(MAP_S[:1], MAP_T[:1], small))


def test_a_void_region_leaves_all_its_pairs() -> None:
    s, t = normal(0, 2, 2, 3, 1, 6)
    mask = (torch.arange(6) < 4).expand(2, 1, 6)
    expected = losses.pairwise(s[..., :4], t[..., :4], scale=0.5)
    same(losses.pairwise(s, t, scale=1 / 3, mask=mask), expected)


@each("scale", [0.5, 0.1])
def test_b131_pairs_of_regions_are_few_on_a_large_map(scale: float) -> None:
    s, t = normal(0, 2, 1, 2, 256, 256).float()
    kept = saved_bytes(lambda: losses.pairwise(s.requires_grad_(), t, scale=scale))
    assert kept < 20 * s.numel() * 4  # one matrix of all positions is 32768 times the map


def test_b131_similarities_of_a_large_map_are_made_in_blocks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    s, t = normal(0, 2, 2, 3, 12, 12)
    mask = torch.from_numpy(np.random.default_rng(0).random((2, 12, 12)) < 0.7)
    whole = 2**2 * 144**2 * 8
    leaf = s.requires_grad_()
    assert saved_bytes(lambda: losses.cirkd(leaf, t)) > whole
    expected, masked = scored(losses.cirkd, s, t), scored(losses.cirkd, s, t, mask=mask)
    monkeypatch.setattr(segmentation, "BLOCK", 2**12)
    assert saved_bytes(lambda: losses.cirkd(leaf, t)) < whole / 4
    for got, right_one in zip(scored(losses.cirkd, s, t), expected, strict=True):
        same(got, right_one)
    for got, right_one in zip(scored(losses.cirkd, s, t, mask=mask), masked, strict=True):
        same(got, right_one)
    assert losses.cirkd(s.detach().numpy(), t.numpy()) == right(float(expected[0]))


@each("name", ["channelwise", "cirkd", "pkd", "ifvd", "bckd_cls", "score_weighted_l2", "pairwise"])
def test_resolution_does_not_matter(name: str) -> None:
    loss = {"bckd_cls": partial(losses.bckd_cls, axis=1)}.get(name) or DENSE[name]
    s, t = normal(0, 2, 2, 3, 4, 2)
    double = [x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in (s, t)]
    same(loss(*double), loss(s, t))


@each("dtype", [torch.float64, torch.float32, torch.float16])
def test_b014_a_constant_channel_counts_a_half_and_has_no_gradient(dtype: torch.dtype) -> None:
    s, t = (x.to(dtype) for x in normal(0, 2, 3, 2, 5, 7))
    s[:, 0] = 0.1
    value, grad = scored(losses.pkd, s, t)
    alone = losses.pkd(s[:, 1:], t[:, 1:])
    assert value.item() == pytest.approx((0.5 + alone.item()) / 2, rel=1e-6)
    assert grad[:, 0].count_nonzero() == 0
    assert finite(grad)


def test_an_aligned_map_has_the_moments_of_the_source() -> None:
    s, t = normal(0, 2, 2, 3, 4, 5)
    aligned = detection.align(s, t)
    for moment in (torch.mean, partial(torch.std, correction=0)):
        same(moment(aligned, dim=(0, 2, 3)), moment(t, dim=(0, 2, 3)))
    s[:, 1] = 4.0
    constant = detection.align(s, t)[:, 1]
    same(constant, t[:, 1].mean().expand_as(constant))


@each("name", ["ifvd", "cirkd", "pairwise"])
def test_dead_pixels_have_no_gradient(name: str) -> None:
    s, t = normal(0, 2, 2, 3, 4, 4)
    s[0] = 0
    value, grad = scored(DENSE[name], s, t)
    assert finite(value, grad)
    assert grad.abs().max() < 10


@each("loss", [FGFI, DEFEAT, FGD])
def test_images_without_boxes(loss: Callable[..., Tensor]) -> None:
    s, t = normal(0, 2, 2, 3, 4, 4)
    inner = {FGFI: losses.fgfi, DEFEAT: losses.defeat, FGD: losses.fgd}[loss]
    options: dict[str, Any] = {"anchors": [(16, 16)]} if loss is FGFI else {}
    none = t.new_zeros(2, 0, 4)
    fillers = t.new_tensor([0.0, 0, -1, -1]).expand(2, 3, 4)
    for rows in (none, fillers):
        value, grad = scored(partial(inner, boxes=rows, stride=8, **options), s, t)
        assert finite(value, grad)
        assert (value == 0) == (loss is FGFI)
    assert grad.shape == s.shape


def test_masks_do_not_depend_on_how_far_a_batch_was_padded() -> None:
    box = torch.tensor([[[3.0, 5.0, 20.0, 18.0]]])
    near, far = ((4, 4), (6, 8))
    for mask in (
        lambda size: boxes.area_weights(table, box, 8, size)[0],
        lambda size: boxes.level_mask(table, box, 8, size, 0, 1),
        lambda size: boxes.anchor_mask(table, box, 8, size, [(16, 16)]),
    ):
        assert torch.equal(mask(far)[:, :4, :4], mask(near))
        assert mask(far)[:, 4:].count_nonzero() == mask(far)[..., 4:].count_nonzero() == 0


def test_an_objects_cells_end_inclusively_for_fgd_and_not_for_defeat() -> None:
    box = torch.tensor([[[8.0, 0.0, 16.0, 7.0]]])
    share, _ = boxes.area_weights(table, box, 8, (2, 4))
    assert share.tolist() == [[[0, 0.25, 0.25, 0], [0, 0.25, 0.25, 0]]]
    assert boxes.level_mask(table, box, 8, (2, 4), 0, 1).tolist() == [
        [[False, True, False, False], [False, False, False, False]]
    ]


def test_overlapping_boxes_take_the_smaller_one() -> None:
    pair = torch.tensor([[[0.0, 0, 31, 31], [0, 0, 7, 7]]])
    share, _ = boxes.area_weights(table, pair, 8, (4, 4))
    assert share[0, 0, 0] == 1 / 4
    assert share[0, 3, 3] == 1 / 25


@each("level", [0, 1, 2])
def test_each_box_belongs_to_one_level(level: int) -> None:
    sides = torch.tensor([10.0, 55.0, 111.0, 223.0, 447.0, 1000.0])
    pair = torch.stack([torch.zeros(6), torch.zeros(6), sides, sides], -1)[:, None]
    on = torch.stack([boxes.level_mask(table, pair, 8, (1, 1), k, 3)[:, 0, 0] for k in range(3)])
    assert on.sum(0).tolist() == [1] * 6
    assert on.long().argmax(0).tolist() == [0, 0, 1, 2, 2, 2]
    assert losses.defeat(
        torch.zeros(6, 1, 1, 1), torch.ones(6, 1, 1, 1), pair, stride=8, level=level, levels=3
    ) == pytest.approx(7.5)


@each(
    ("name", "width"),
    [("fgfi", 3), ("giou", 4), ("ld", 3), ("score_weighted_l2", 3)],
)
def test_micro_batches_share_one_count(name: str, width: int) -> None:
    s, t = normal(1, 2, 4, width, 4, 5)
    if name == "giou":
        s, t = (torch.cat([x[:, :2], x[:, :2] + x[:, 2:].abs() + 1], 1) for x in (s, t))
        s, t = (x.movedim(1, -1) for x in (s, t))
    score = normal(2, 4, *((4, 5) if name == "giou" else (3,))).abs()
    extra, count = {
        "fgfi": (boxes_of(t), None),
        "giou": (score, score.sum()),
        "ld": (score, score.sum()),
        "score_weighted_l2": (t, t.sigmoid().amax(1).sum()),
    }[name]
    loss: Callable[..., Tensor] = getattr(losses, name)
    if name == "fgfi":
        loss = partial(loss, stride=8, anchors=[(16, 16)])
        near = boxes.anchor_mask(table, boxes_of(t), 8, (4, 5), [(16, 16)])
        count = near.sum()
    whole = loss(s, t, extra)
    halves = [loss(s[i], t[i], extra[i], count=count) for i in (slice(1), slice(1, None))]
    same(halves[0] + halves[1], whole)


@each("loss", [losses.giou, losses.ld])
def test_without_any_score_the_value_is_zero(loss: Callable[..., Tensor]) -> None:
    s, t = normal(0, 2, 3, 4) if loss is losses.giou else normal(0, 2, 3, 4, 5)
    value, grad = scored(loss, s, t, score=torch.zeros(3))
    assert value == 0
    assert grad.count_nonzero() == 0


def test_scores_are_held_still() -> None:
    s, t = normal(0, 2, 3, 4, 5)
    score = normal(1, 3).abs().requires_grad_()
    value = losses.ld(s.requires_grad_(), t, score)
    assert torch.autograd.grad(value, [s, score], allow_unused=True)[1] is None


def test_the_attention_of_fgd_is_held_still() -> None:
    s, t = normal(0, 2, 2, 3, 4, 4)
    none = t.new_zeros(2, 0, 4)
    alone = partial(losses.fgd, boxes=none, stride=8, foreground=0, background=0)
    assert scored(lambda t: alone(s, t), t)[1].count_nonzero() == 0
    a = t.abs().mean((2, 3)).div(0.5).softmax(1) * 3
    where = t.abs().mean(1).div(0.5).flatten(1).softmax(1).unflatten(1, (4, 4)) * 16
    far = partial(losses.fgd, boxes=none, stride=8, background=1, channel=0, spatial=0)
    expected = 2 * (t - s) * a[..., None, None] * where[:, None] / 16 / 2
    same(scored(lambda t: far(s, t), t)[1], expected)


@each("dtype", [torch.float64, torch.float32, torch.float16])
def test_sure_classes_that_agree_stay_accurate(dtype: torch.dtype) -> None:
    s, t = torch.tensor([[9.0]]), torch.tensor([[10.0]])
    exact = losses.bckd_cls(s.double(), t.double())
    assert losses.bckd_cls(s.to(dtype), t.to(dtype)).item() == right(float(exact), 1e-5)
    huge = torch.tensor([[1e4, -1e4, 1e4]]).to(dtype)
    assert finite(*scored(losses.bckd_cls, huge, huge.flip(1).neg()))


def test_the_score_of_boxes_is_where_the_classes_disagree() -> None:
    s, t = torch.tensor([[0.0, 0, 2, 2]] * 2), torch.tensor([[0.0, 0, 2, 1]] * 2)
    mine, theirs = torch.tensor([[0.0, 1.0], [2.0, 2.0]]), torch.tensor([[0.5, 3.0], [2.0, 2.0]])
    assert losses.bckd_giou(s, t, mine, theirs) == pytest.approx(0.5)
    assert losses.bckd_giou(s, t, theirs, theirs) == 0


M = torch.zeros(2, 3, 4, 4)


@each(
    ("call", "message"),
    [
        (lambda: losses.channelwise(M, M[:, :2]), "one shape"),
        (lambda: losses.channelwise(M[0], M[0]), "maps"),
        (lambda: losses.pairwise(M, M[:, :, :2]), "one batch and size"),
        (lambda: losses.pairwise(M, M, scale=0.0), "scale must be"),
        (lambda: losses.cirkd(M, M[:1]), "one batch and size"),
        (lambda: losses.ifvd(M, M, M[:, 0], classes=2), "labels must be integers"),
        (lambda: losses.pkd(M, M[..., :3]), "one shape"),
        (lambda: losses.ifvd(M, M, M[:1, 0].long(), classes=2), "labels must be integers"),
        (lambda: losses.fgd(M, M, M[0, 0], stride=8), "boxes must be"),
        (lambda: losses.fgd(M, M, M[0], stride=8), "of 2 images, got"),
        (lambda: losses.fgd(M, M, M[:, 0], stride=0), "stride must be positive, got 0"),
        (lambda: losses.fgfi(M, M, M[0], stride=8, anchors=[]), "anchors must be"),
        (lambda: losses.defeat(M, M, M[0], stride=8, level=1), "level must be"),
        (lambda: losses.bckd_cls(M, M, beta=0.5), "beta must be"),
        (lambda: losses.giou(M, M, M[:, 0]), "score must have"),
        (lambda: losses.giou(M[..., :3], M[..., :3], M[..., 0]), "boxes must be"),
        (lambda: losses.ld(M[:, :, :3], M[:, :, :3], M[..., 0, 0]), r"logits \(\.\.\., 4, bins\)"),
        (lambda: losses.score_weighted_l2(M, M, M[..., :3]), "logits must be"),
    ],
)
def test_misuse_is_refused_by_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
