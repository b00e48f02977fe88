"""The dense losses against their oracles: torch and NumPy values, torch gradients."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from tests.losses import oracles_dense, oracles_heads
from tests.losses.test_oracles import (
    Array,
    Case,
    Draw,
    arrays,
    drawn_items,
    same_in_numpy,
    same_in_torch,
)

from limbeck import losses

few = settings(max_examples=12, deadline=None, derandomize=True, database=None)
MAPS = st.sampled_from([(1, 1), (2, 2), (3, 2), (1, 4), (4, 3)])
STRIDE = 8


def mask_of(draw: Draw, rng: Generator, shape: tuple[int, ...]) -> tuple[dict[str, Any], ...]:
    """A mask of a prefix of the items' shape, or none: as given, and at full size."""
    if not draw(st.booleans()):
        return {}, {}
    prefix = shape[: draw(st.integers(1, len(shape)))]
    mask = rng.random(prefix) < draw(st.sampled_from([0.0, 0.5, 0.9]))
    wide = mask.reshape(prefix + (1,) * (len(shape) - len(prefix)))
    return {"mask": mask}, {"mask": np.broadcast_to(wide, shape)}


def weighing(draw: Draw, rng: Generator, batch: int) -> dict[str, Any]:
    """A weight of samples and a count, or not."""
    chosen: dict[str, Any] = {}
    if draw(st.booleans()):
        chosen["weight"] = rng.random(batch) * 2
    if draw(st.booleans()):
        chosen["count"] = draw(st.floats(0.5, 20))
    return chosen


def two_maps(draw: Draw, same: bool = True) -> tuple[Generator, Array, Array, tuple[int, ...]]:
    batch, size = draw(st.integers(1, 2)), draw(MAPS)
    mine = draw(st.integers(1, 3))
    theirs = mine if same else draw(st.integers(1, 3))
    rng, (s, t) = arrays(draw, (batch, mine, *size), (batch, theirs, *size))
    return rng, s, t, (batch, *size)


def drawn_boxes(rng: Generator, shape: tuple[int, ...], side: int = STRIDE) -> Array:
    """Up to three boxes an image, also over the edge, filled up with rows that are none."""
    low = rng.integers(-4, side * max(shape[1:]), (shape[0], rng.integers(0, 4), 2))
    boxes = np.concatenate([low, low + rng.integers(0, 4 * side, low.shape)], -1) + 0.25
    boxes[rng.random(boxes.shape[:2]) < 0.3] = (0, 0, -1, -1)
    return boxes


@st.composite
def positions(draw: Draw, name: str) -> Case:
    """Losses of samples whose mask may be of positions."""
    rng, s, t, shape = two_maps(draw, same=name == "channelwise")
    call, twin = mask_of(draw, rng, shape)
    more = weighing(draw, rng, shape[0])
    if name == "channelwise":
        more["temperature"] = draw(st.floats(0.5, 8))
    else:
        more["scale"] = draw(st.sampled_from([0.25, 0.5, 0.7, 1.0]))
    loss, oracle = getattr(losses, name), getattr(oracles_dense, name)
    return Case(loss, oracle, s, t, call | more, twin | more)


@st.composite
def prototypes(draw: Draw) -> Case:
    rng, s, t, shape = two_maps(draw, same=False)
    call, twin = drawn_items(draw, rng, shape)
    size = tuple(n * draw(st.sampled_from([1, 2, 3])) + draw(st.integers(0, 1)) for n in shape[1:])
    labels = rng.integers(0, 3, (shape[0], *size))
    labels[rng.random(labels.shape) < 0.3] = draw(st.sampled_from([255, -100, 2]))
    more = {"labels": labels, "classes": 2}
    return Case(losses.ifvd, oracles_dense.ifvd, s, t, call | more, twin | more)


@st.composite
def batches(draw: Draw, name: str) -> Case:
    """Losses that compare samples."""
    rng, s, t, shape = two_maps(draw, same=name == "pkd")
    call, twin = mask_of(draw, rng, shape)
    more = {"temperature": draw(st.sampled_from([0.1, 1.0]))} if name == "cirkd" else {}
    loss, oracle = getattr(losses, name), getattr(oracles_dense, name)
    return Case(loss, oracle, s, t, call | more, twin | more)


@st.composite
def boxed(draw: Draw, name: str) -> Case:
    rng, s, t, shape = two_maps(draw)
    far = name == "defeat"
    boxes = drawn_boxes(rng, shape, 40 if far else STRIDE)
    more: dict[str, Any] = {"stride": 40 if far else STRIDE}
    if name == "fgd":
        call, twin = drawn_items(draw, rng, shape[:1])
        parts = ("temperature", "foreground", "background", "channel", "spatial")
        more |= {part: draw(st.floats(0.3, 3)) for part in parts}
    elif name == "fgfi":
        call, twin = drawn_items(draw, rng, shape)
        more["anchors"] = [(16, 16), (24, 12)][: draw(st.integers(1, 2))]
    else:
        call, twin = mask_of(draw, rng, shape)
        level, levels = draw(st.sampled_from([(0, 1), (0, 2), (1, 2), (1, 3)]))
        more |= {"level": level, "levels": levels, "foreground": 3.0, "background": 12.0}
        boxes = np.maximum(boxes, np.array([0, 0, -1, -1]))
    theirs = {"boxes": list(oracles_dense.all_boxes(boxes))}
    loss, oracle = getattr(losses, name), getattr(oracles_dense, name)
    return Case(loss, oracle, s, t, call | more | {"boxes": boxes}, twin | more | theirs)


@st.composite
def classes(draw: Draw) -> Case:
    items = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    rng, (s, t) = arrays(draw, *[(*items, draw(st.integers(1, 3)))] * 2)
    call, twin = drawn_items(draw, rng, items)
    beta, axis = draw(st.sampled_from([1.0, 1.5, 2.0])), draw(st.integers(-1, len(items)))
    call |= {"beta": beta, "axis": axis}
    return Case(losses.bckd_cls, oracles_heads.bckd_cls, s, t, call, twin | {"beta": beta}, axis)


@st.composite
def scored(draw: Draw, name: str) -> Case:
    items = draw(st.sampled_from([(1,), (3,), (2, 2)]))
    width = (4, draw(st.integers(2, 4))) if name == "ld" else (4,)
    rng, (s, t) = arrays(draw, (*items, *width), (*items, *width))
    if name != "ld":
        s, t = (np.concatenate([x[..., :2], x[..., :2] + np.exp(x[..., 2:])], -1) for x in (s, t))
    call, twin = drawn_items(draw, rng, items)
    more: dict[str, Any] = {"score": rng.random(items) * (rng.random(items) < 0.8)}
    if name == "ld":
        more["temperature"] = draw(st.floats(0.5, 10))
    elif name == "bckd_giou":
        more = {side: rng.standard_normal((*items, 3)) for side in ("s_logits", "t_logits")}
    loss, oracle = getattr(losses, name), getattr(oracles_heads, name)
    return Case(loss, oracle, s, t, call | more, twin | more)


@st.composite
def sure(draw: Draw) -> Case:
    rng, s, t, shape = two_maps(draw)
    call, twin = drawn_items(draw, rng, shape)
    more = {"logits": rng.standard_normal((shape[0], 2, *shape[1:])) * 3}
    loss, oracle = losses.score_weighted_l2, oracles_heads.score_weighted_l2
    return Case(loss, oracle, s, t, call | more, twin | more)


CASES = {
    "channelwise": positions("channelwise"),
    "pairwise": positions("pairwise"),
    "ifvd": prototypes(),
    "cirkd": batches("cirkd"),
    "pkd": batches("pkd"),
    "fgd": boxed("fgd"),
    "fgfi": boxed("fgfi"),
    "defeat": boxed("defeat"),
    "bckd_cls": classes(),
    "giou": scored("giou"),
    "bckd_giou": scored("bckd_giou"),
    "ld": scored("ld"),
    "score_weighted_l2": sure(),
}


@pytest.mark.parametrize("name", CASES)
@few
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    same_in_torch(data.draw(CASES[name]))


@pytest.mark.parametrize("name", CASES)
@few
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    same_in_numpy(data.draw(CASES[name]))
