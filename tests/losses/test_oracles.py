"""Every loss against its oracle: torch and NumPy values, torch gradients, all arguments drawn."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.losses import oracles

from limbeck import losses

Array = NDArray[Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]
examples = settings(max_examples=25, deadline=None, derandomize=True, database=None)

ITEMS = st.sampled_from([(1,), (2,), (5,), (2, 3), (1, 1), (2, 1, 2), (1, 2, 3)])
MAPS = st.sampled_from([(1, 1), (2, 2), (3, 2), (1, 4), (4, 3)])
seeds = st.integers(0, 2**32 - 1)


class Case(NamedTuple):
    """One call of a loss and its twin: the oracle's arrays have the classes last."""

    loss: Callable[..., Any]
    oracle: Callable[..., float]
    s: Array
    t: Array
    call: dict[str, Any]  # what limbeck is called with
    twin: dict[str, Any]  # the same for the oracle
    axis: int = -1

    def arguments(self, convert: Callable[[Array], Any]) -> tuple[Any, Any, dict[str, Any]]:
        """Student, source and keywords as limbeck takes them, in the framework of `convert`."""
        s, t = (
            np.moveaxis(x, -1, self.axis) if x.ndim == self.s.ndim else x for x in (self.s, self.t)
        )
        keys = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in self.call.items()}
        return convert(s.copy()), convert(t.copy()), keys

    def theirs(self, s: Array) -> float:
        return self.oracle(s, self.t, **self.twin)


def same_in_torch(case: Case) -> None:
    """limbeck's value and gradient are the oracle's."""
    s, t, keys = case.arguments(torch.from_numpy)
    value = case.loss(s.requires_grad_(), t, **keys)
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case.theirs(case.s), rel=1e-10, abs=1e-12)
    (grad,) = torch.autograd.grad(value, s)
    expected = oracles.gradient(case.theirs, case.s)
    close = 1e-7 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(grad.movedim(case.axis, -1), expected, rtol=0, atol=close)


def same_in_numpy(case: Case) -> None:
    """limbeck's value of NumPy arrays is the oracle's."""
    s, t, keys = case.arguments(np.asarray)
    value = case.loss(s, t, **keys)
    assert value.dtype == np.float64
    assert value.shape == ()
    assert float(value) == pytest.approx(case.theirs(case.s), rel=1e-10, abs=1e-12)


def drawn_items(draw: Draw, rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    """A mask, weight and count for items of `shape`: as given to limbeck, and at full size."""
    call: dict[str, Any] = {}
    twin: dict[str, Any] = {}
    if draw(st.booleans()):
        call["count"] = twin["count"] = draw(st.floats(0.5, 20))
    for name in draw(st.sampled_from([[], ["mask"], ["weight"], ["mask", "weight"]])):
        prefix = shape[: draw(st.integers(1, len(shape)))]
        chance = draw(st.sampled_from([0.0, 0.5, 0.9]))
        array = rng.random(prefix) < chance if name == "mask" else rng.random(prefix) * 2
        call[name] = array
        wide = array.reshape(prefix + (1,) * (len(shape) - len(prefix)))
        twin[name] = np.broadcast_to(wide, shape)
    return call, twin


def arrays(draw: Draw, *shapes: tuple[int, ...]) -> tuple[np.random.Generator, list[Array]]:
    rng = np.random.default_rng(draw(seeds))
    scale = draw(st.sampled_from([0.3, 1.0, 6.0]))
    return rng, [rng.standard_normal(shape) * scale for shape in shapes]


@st.composite
def divergence(draw: Draw, name: str) -> Case:
    items, classes = draw(ITEMS), draw(st.integers(2, 5))
    rng, (s, t) = arrays(draw, (*items, classes), (*items, classes))
    call, twin = drawn_items(draw, rng, items)
    temperature = draw(st.floats(0.5, 8))
    axis = draw(st.integers(-1, len(items)))
    call |= {"temperature": temperature, "axis": axis}
    twin |= {"temperature": temperature}
    return Case(getattr(losses, name), getattr(oracles, name), s, t, call, twin, axis)


@st.composite
def pseudo_labels(draw: Draw) -> Case:
    items, classes = draw(ITEMS), draw(st.integers(2, 5))
    rng, (s, t) = arrays(draw, (*items, classes), (*items, classes))
    if draw(st.booleans()):
        t = t.round()  # of classes that tie, the first
    call, twin = drawn_items(draw, rng, items)
    axis = draw(st.integers(-1, len(items)))
    return Case(losses.hard, oracles.hard, s, t, call | {"axis": axis}, twin, axis)


@st.composite
def labels(draw: Draw, soft: bool) -> Case:
    items, classes = draw(ITEMS), draw(st.integers(2, 5))
    rng, (s,) = arrays(draw, (*items, classes))
    call, twin = drawn_items(draw, rng, items)
    smoothing = draw(st.sampled_from([0.0, 0.1, 0.7]))
    axis = draw(st.integers(-1, len(items)))
    call |= {"label_smoothing": smoothing, "axis": axis}
    twin |= {"label_smoothing": smoothing}
    withheld = rng.random(items) < draw(st.sampled_from([0.0, 0.4, 1.0]))
    if soft:
        t = rng.dirichlet(np.ones(classes), items) * ~withheld[..., None]
    else:
        t = np.where(withheld, -100, rng.integers(0, classes, items))
    return Case(losses.cross_entropy, oracles.cross_entropy, s, t, call, twin, axis)


@st.composite
def features(draw: Draw) -> Case:
    items, channels = draw(ITEMS), draw(st.integers(1, 4))
    rng, (s, t) = arrays(draw, (*items, channels), (*items, channels))
    call, twin = drawn_items(draw, rng, items)
    axis = draw(st.integers(-1, len(items)))
    return Case(losses.hint, oracles.hint, s, t, call | {"axis": axis}, twin, axis)


@st.composite
def maps(draw: Draw) -> Case:
    batch, channels = draw(st.integers(1, 3)), draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    shapes = [(batch, c, *draw(MAPS)) for c in channels]
    rng, (s, t) = arrays(draw, *shapes)
    call, twin = drawn_items(draw, rng, (batch,))
    return Case(losses.attention, oracles.attention, s, t, call, twin)


@st.composite
def embeddings(draw: Draw, name: str) -> Case:
    batch = draw(st.integers(1, 5))
    widths = [draw(st.integers(2, 4)) for _ in "st"]
    rng, (s, t) = arrays(draw, *((batch, width) for width in widths))
    mask = {"mask": rng.random(batch) < 0.7} if draw(st.booleans()) else {}
    return Case(getattr(losses, name), getattr(oracles, name), s, t, mask, mask)


CASES = {
    "kl": divergence("kl"),
    "reverse_kl": divergence("reverse_kl"),
    "cross_entropy of labels": labels(soft=False),
    "cross_entropy of distributions": labels(soft=True),
    "hard": pseudo_labels(),
    "hint": features(),
    "attention": maps(),
    "rkd_distance": embeddings("rkd_distance"),
    "rkd_angle": embeddings("rkd_angle"),
}


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    same_in_torch(data.draw(CASES[name]))


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    same_in_numpy(data.draw(CASES[name]))
