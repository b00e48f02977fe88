"""Token losses against their oracles: torch and NumPy values, torch gradients, drawn arguments."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.losses import oracles_token
from tests.losses.oracles import gradient
from tests.losses.test_oracles import MAPS, Draw, arrays, drawn_items, examples

from limbeck import losses

Array = NDArray[Any]
FEW = st.integers(1, 3)
TOKENS = st.sampled_from([(1,), (3,), (1, 1), (2, 3), (3, 2)])
TAILS = st.sampled_from(["bucket", "renormalise", "drop"])


class Case(NamedTuple):
    """One call of a loss and its twin; arrays among the keywords are converted too."""

    name: str
    s: Array
    t: Array
    call: dict[str, Any]  # what limbeck is called with
    twin: dict[str, Any]  # the same for the oracle

    def ours(self, convert: Callable[[Array], Any]) -> tuple[Any, Any]:
        """The student as an array of a framework, and the value."""
        s = convert(self.s.copy())
        keys = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in self.call.items()}
        return s, getattr(losses, self.name)(s, convert(self.t.copy()), **keys)

    def theirs(self, s: Array) -> float:
        return getattr(oracles_token, self.name)(s, self.t, **self.twin)


@st.composite
def vectors(draw: Draw, name: str) -> Case:
    """Rows of one shape on both sides; of vocabularies, the sizes may differ."""
    items = draw(TOKENS)
    widths = [draw(st.integers(2, 5)) for _ in "st"] if name == "uld" else [draw(FEW)] * 2
    rng, (s, t) = arrays(draw, *((*items, width) for width in widths))
    return Case(name, s, t, *drawn_items(draw, rng, items))


@st.composite
def class_states(draw: Draw) -> Case:
    shape = draw(st.sampled_from([(3, 2), (2, 3, 4), (1, 1, 2)]))
    rng, (s, t) = arrays(draw, shape, shape)
    call, twin = drawn_items(draw, rng, shape[:1])
    own = {"token": draw(st.integers(-1, 0))}
    return Case("pkd_bert", s, t, call | own, twin | own)


@st.composite
def margins(draw: Draw) -> Case:
    batch, negatives, known = draw(FEW), draw(FEW), draw(st.booleans())
    shapes = (batch, 1 + negatives), (batch, negatives if known else 1 + negatives)
    rng, (s, t) = arrays(draw, *shapes)
    return Case("margin_mse", s, t, *drawn_items(draw, rng, (batch, negatives)))


@st.composite
def kept(draw: Draw) -> Case:
    items, vocabulary = draw(TOKENS), draw(st.integers(2, 6))
    rng, (s, t) = arrays(draw, (*items, vocabulary), (*items, vocabulary))
    call, twin = drawn_items(draw, rng, items)
    tail = draw(TAILS)
    k = draw(st.integers(2 if tail == "renormalise" else 1, vocabulary))
    own = {"k": k, "tail": tail, "temperature": draw(st.floats(0.5, 4))}
    return Case("topk_kl", s, t, call | own, twin | own)


@st.composite
def stored(draw: Draw) -> Case:
    """Rows whose source was stored with fewer and fewer tokens, the rest filled."""
    batch, vocabulary, tail = draw(FEW), draw(st.integers(2, 6)), draw(TAILS)
    rng, (s, logits) = arrays(draw, (batch, vocabulary), (batch, vocabulary))
    logits = logits / max(1.0, np.abs(logits).max() / 4)  # so that no tail is mere rounding
    call, twin = drawn_items(draw, rng, (batch,))
    own = {"tail": tail, "temperature": draw(st.floats(0.5, 4))}
    k = draw(st.integers(2 if tail == "renormalise" else 1, vocabulary))
    softened = logits / own["temperature"]
    log_p = softened - np.log(np.exp(softened).sum(-1, keepdims=True))
    index = np.argsort(-log_p, -1)[:, :k]
    t = np.take_along_axis(log_p, index, -1)
    tokens = []
    for b in range(batch):
        many = draw(st.integers(1, k)) if k < vocabulary else k
        t[b, many:], index[b, many:] = -np.inf, 0
        tokens.append(list(index[b, :many]))
    twin |= {"logits": logits, "tokens": tokens}
    return Case("sparse_kl", s, t, call | own | {"index": index}, twin | own)


@st.composite
def relations(draw: Draw, name: str) -> Case:
    heads, (batch, n) = draw(FEW), draw(st.sampled_from([(1, 1), (2, 3), (1, 4)]))
    widths = [heads * draw(FEW) for _ in "st"]
    shapes = [(batch, n, width) for width in widths]
    rng, (s, t, s_keys, t_keys) = arrays(draw, *shapes, *shapes)
    s, t, s_keys, t_keys = (x / max(1.0, np.abs(x).max() / 3) for x in (s, t, s_keys, t_keys))
    call, twin = drawn_items(draw, rng, (batch, n))
    own: dict[str, Any] = {"heads": heads}
    if name == "minilm_attention":
        own |= {"s_keys": s_keys, "t_keys": t_keys}
    return Case(name, s, t, call | own, twin | own)


@st.composite
def scores(draw: Draw) -> Case:
    batch, heads, n = draw(FEW), draw(FEW), draw(FEW)
    shape = (batch, heads, n, n)
    rng, (s, t) = arrays(draw, shape, shape)
    for x in (s, t):
        x[rng.random(shape) < draw(st.sampled_from([0.0, 0.3]))] = -np.inf
    call: dict[str, Any] = {"count": draw(st.sampled_from([None, 2.5]))}
    twin = dict(call)
    if draw(st.booleans()):
        call["mask"] = twin["tokens"] = rng.random((batch, n)) < 0.7
    if draw(st.booleans()):
        call["weight"] = rng.random((batch, heads))
        twin["weight"] = np.broadcast_to(call["weight"][..., None, None], shape)
    return Case("tinybert_attention", s, t, call, twin)


@st.composite
def maps(draw: Draw) -> Case:
    batch = draw(FEW)
    rng, (s, t) = arrays(draw, *((batch, draw(FEW), *draw(MAPS)) for _ in "st"))
    return Case("afd", s, t, *drawn_items(draw, rng, (batch,)))


@st.composite
def pooled(draw: Draw, name: str) -> Case:
    """Vectors, tokens and maps on either side; the mask is of samples or of tokens."""
    batch, width, n = draw(st.integers(1, 4)), draw(FEW), draw(FEW)
    kinds = {"vector": (batch, width), "tokens": (batch, n, width), "map": (batch, width, 2, 3)}
    ours, theirs = (draw(st.sampled_from(sorted(kinds))) for _ in "st")
    rng, (s, t) = arrays(draw, kinds[ours], kinds[theirs])
    call: dict[str, Any] = {}
    if name == "vkd" and draw(st.booleans()):
        call |= {"weight": rng.random(batch), "count": 2.5}
    twin = dict(call)
    if draw(st.booleans()):
        several = "tokens" in (ours, theirs) and draw(st.booleans())
        mask = rng.random((batch, n) if several else batch) < 0.7
        mask[0] = True
        call["mask"] = twin["tokens"] = mask
    return Case(name, s, t, call, twin)


CASES = {
    "topk_kl": kept(),
    "sparse_kl": stored(),
    "uld": vectors("uld"),
    "vitkd_mimic": vectors("vitkd_mimic"),
    "cosine": vectors("cosine"),
    "pkd_bert": class_states(),
    "margin_mse": margins(),
    "minilm_attention": relations("minilm_attention"),
    "minilm_relation": relations("minilm_relation"),
    "tinybert_attention": scores(),
    "afd": maps(),
    "vkd": pooled("vkd"),
    "srd_logsum": pooled("srd_logsum"),
    "srd_correlation": pooled("srd_correlation"),
}


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_torch_value_and_gradient(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    s, value = case.ours(lambda x: torch.from_numpy(x).requires_grad_(x.dtype == np.float64))
    assert value.dtype == torch.float64
    assert value.item() == pytest.approx(case.theirs(case.s), rel=1e-9, abs=1e-12)
    (grad,) = torch.autograd.grad(value, s)
    finite = np.isfinite(case.s)
    expected = np.where(finite, gradient(case.theirs, case.s), 0)
    close = 1e-6 * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(grad, expected, rtol=0, atol=close)


@pytest.mark.parametrize("name", CASES)
@examples
@given(data=st.data())
def test_numpy_value(name: str, data: st.DataObject) -> None:
    case = data.draw(CASES[name])
    _, value = case.ours(np.asarray)
    assert value.dtype == np.float64
    assert value.shape == ()
    assert float(value) == pytest.approx(case.theirs(case.s), rel=1e-9, abs=1e-12)
