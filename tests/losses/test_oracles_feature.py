"""Feature losses against their oracles: torch and NumPy values, gradients, drawn arguments."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import oracles_feature
from tests.losses.test_oracles import (
    ITEMS,
    MAPS,
    Case,
    Draw,
    arrays,
    drawn_items,
    examples,
    same_in_numpy,
    same_in_torch,
)

from limbeck import losses

HCL_MAPS = st.sampled_from([(1, 1), (2, 3), (3, 2), (5, 3), (5, 6)])
CELLS = st.sampled_from([(1, 2), (2, 2), (3, 2), (1, 4), (4, 3)])
FEW = st.integers(1, 3)


def case(name: str, s: Any, t: Any, call: dict[str, Any], twin: dict[str, Any]) -> Case:
    return Case(getattr(losses, name), getattr(oracles_feature, name), s, t, call, twin)


@st.composite
def any_maps(draw: Draw, name: str) -> Case:
    """Maps whose channels and sizes differ."""
    batch = draw(FEW)
    rng, (s, t) = arrays(draw, *((batch, draw(FEW), *draw(MAPS)) for _ in "st"))
    if name == "sad":
        s, t = s / 3, t / 3
    return case(name, s, t, *drawn_items(draw, rng, (batch,)))


@st.composite
def equal_maps(draw: Draw, name: str) -> Case:
    shape = (draw(FEW), draw(FEW), *draw(HCL_MAPS if name == "hcl" else MAPS))
    rng, (s, t) = arrays(draw, shape, shape)
    return case(name, s, t, *drawn_items(draw, rng, shape[:1]))


@st.composite
def activation_maps(draw: Draw) -> Case:
    batch, classes = draw(FEW), draw(FEW)
    rng, (s, t) = arrays(draw, *((batch, classes, *draw(MAPS)) for _ in "st"))
    call, twin = drawn_items(draw, rng, (batch,))
    own = {"resolution": draw(FEW), "normalise": draw(st.booleans())}
    return case("cat_kd", s, t, call | own, twin | own)


@st.composite
def two_layers(draw: Draw, name: str) -> Case:
    batch, first, deep = draw(FEW), draw(FEW), draw(FEW)
    shapes = [(batch, channels, *draw(CELLS)) for channels in (first, first, deep, deep)]
    rng, (s, t, s_deep, t_deep) = arrays(draw, *shapes)
    call, twin = drawn_items(draw, rng, (batch,))
    own: dict[str, Any] = {"s_deep": s_deep, "t_deep": t_deep}
    if name == "kdsvd":
        most = min(min(x.shape[1], x[0, 0].size) for x in (t, t_deep))
        own["k"] = draw(st.integers(1, min(most, 2)))
    return case(name, s, t, call | own, twin | own)


@st.composite
def positions(draw: Draw, name: str) -> Case:
    items, channels = draw(ITEMS), draw(st.integers(1, 4))
    rng, (s, t) = arrays(draw, (*items, channels), (*items, channels))
    call, twin = drawn_items(draw, rng, items)
    axis = draw(st.integers(-1, len(items)))
    own = {
        "ab": {"margin": draw(st.floats(0.2, 3))},
        "ofd": {"margin": -rng.random(channels)},
        "vid": {"variance": rng.random(channels) + 0.1},
    }.get(name, {})
    call, twin = call | own | {"axis": axis}, twin | own
    return case(name, s, t, call, twin)._replace(axis=axis)


CASES = {
    "nst": any_maps("nst"),
    "sad": any_maps("sad"),
    "ft": equal_maps("ft"),
    "hcl": equal_maps("hcl"),
    "jacobian": equal_maps("jacobian"),
    "cat_kd": activation_maps(),
    "fsp": two_layers("fsp"),
    "kdsvd": two_layers("kdsvd"),
    "ab": positions("ab"),
    "ofd": positions("ofd"),
    "byot_hint": positions("byot_hint"),
    "mgd": positions("mgd"),
    "vid": positions("vid"),
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
