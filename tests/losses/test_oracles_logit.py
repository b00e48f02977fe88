"""The logit losses against their oracles: torch and NumPy values, torch gradients."""

import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import oracles_logit
from tests.losses.test_oracles import (
    ITEMS,
    Case,
    Draw,
    arrays,
    drawn_items,
    examples,
    same_in_numpy,
    same_in_torch,
)

from limbeck import losses

temperatures, shares = st.floats(0.5, 8), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0])
KEYS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "akl": {"temperature": temperatures, "mu": st.floats(0.1, 0.9)},
    "ban_cwtm": {},
    "dist": {"temperature": temperatures, "beta": st.floats(0, 2), "gamma": st.floats(0, 2)},
    "dkd": {"temperature": temperatures, "alpha": st.floats(0, 2), "beta": st.floats(0, 9)},
    "jeffreys": {"temperature": temperatures},
    "jsd": {"temperature": temperatures, "mixture": shares},
    "logit_l1": {},
    "logit_mse": {},
    "lskd": {"temperature": temperatures},
    "mlkd": {"temperatures": st.lists(temperatures, min_size=1, max_size=3)},
    "nkd": {"temperature": temperatures, "gamma": st.floats(0, 4)},
    "ps_kd": {"alpha": shares},
    "skew_kl": {"temperature": temperatures, "alpha": shares},
    "skew_reverse_kl": {"temperature": temperatures, "alpha": shares},
    "tfkd_reg": {"temperature": st.floats(0.5, 40), "correct": st.floats(0.5, 0.99)},
    "total_variation": {},
    "ttm": {"gamma": st.floats(0.1, 2)},
    "wsld": {"temperature": temperatures},
    "wttm": {"gamma": st.floats(0.1, 2)},
}


@st.composite
def cases(draw: Draw, name: str) -> Case:
    loss, oracle = getattr(losses, name), getattr(oracles_logit, name)
    takes = inspect.signature(loss).parameters
    shape, classes = draw(ITEMS), draw(st.integers(3 if name == "lskd" else 2, 5))
    rng, (s, t) = arrays(draw, (*shape, classes), (*shape, classes))
    call, twin = drawn_items(draw, rng, shape)
    keys = {key: draw(values) for key, values in KEYS[name].items()}
    call, twin = ({k: v for k, v in x.items() if k in takes} | keys for x in (call, twin))
    axis = call["axis"] = draw(st.integers(-1, len(shape)))
    if "target" in takes:
        unlabelled = rng.random(shape) < draw(st.sampled_from([0.0, 0.4, 1.0]))
        target = np.where(unlabelled, -100, rng.integers(0, classes, shape))
        if "t" in takes:
            call["target"] = twin["target"] = target
        else:
            t = target
    if "held" in inspect.signature(oracle).parameters:
        twin["held"] = s
    return Case(loss, oracle, s, t, call, twin, axis)


@pytest.mark.parametrize("name", KEYS)
@examples
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    same_in_torch(data.draw(cases(name)))


@pytest.mark.parametrize("name", KEYS)
@examples
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    same_in_numpy(data.draw(cases(name)))
