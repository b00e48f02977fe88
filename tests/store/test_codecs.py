"""What each codec keeps of a signal, and how far off it is."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.store import CODECS, codec


def draws(rows, seed=0):
    return lambda n: np.random.default_rng(seed).random((rows, n))


def round_trip(made, x):
    arrays = made.encode(x, draws(len(x)))
    assert all(len(array) == len(x) for array in arrays.values())
    return made.decode(arrays, tuple(x.shape[1:]))


def drawn(rows=20, classes=1000, std=5.0, seed=0):
    return std * torch.randn(rows, classes, generator=torch.Generator().manual_seed(seed))


def test_single_precision_is_the_signal_itself():
    x = drawn() * 1e30
    assert round_trip(codec("float32"), x)[""].equal(x)


def test_half_precision_refuses_what_it_cannot_hold():
    with pytest.raises(LimbeckError, match=r"up to 65504, got 70000; use the codec float32"):
        codec("float16").encode(torch.tensor([[7e4]]), draws(1))


def kl(log_p, log_q):
    pieces = np.where(np.isneginf(log_p), 0.0, np.exp(log_p) * (log_p - log_q))
    return float(pieces.sum(-1).mean())


def log_softmax(x):
    x = x.double().numpy()
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_logits_are_right_where_the_probability_is():
    x = drawn() + 300.0
    back = round_trip(codec("logits"), x)[""]
    assert kl(log_softmax(x), log_softmax(back)) < 2e-7
    assert kl(log_softmax(x), log_softmax(x.half().float())) > 1e-4, "plain halves are far worse"
    assert float((x - back).abs().max()) < 0.02, "raw logits come back, not only their differences"


def test_logits_keep_masks_and_what_half_precision_could_not_hold():
    x = torch.tensor([[0.0, -math.inf, -1e6, 2.0]])
    back = round_trip(codec("logits"), x)[""]
    assert back[0, 1] == -math.inf
    assert back[0, 2] < -65000
    assert back.isfinite().sum() == 3


@pytest.mark.parametrize("shape", [(6,), (4, 5, 5), (4, 30)])
def test_bytes_are_half_a_step_off_at_most(shape):
    x = drawn(8, math.prod(shape)).reshape(8, *shape)
    back = round_trip(codec("int8"), x)[""]
    axes = tuple(range(2, x.ndim)) or (1,)
    step = x.abs().amax(axes, keepdim=True) / 127
    assert bool(((x - back).abs() <= step / 2 * 1.001).all())
    dead = round_trip(codec("int8"), torch.zeros(2, *shape))[""]
    assert not dead.any()


def test_the_class_alone():
    x = drawn(20, 70_000)
    assert round_trip(codec("hard"), x)[".label"].equal(x.argmax(-1))
    assert codec("hard").bytes((70_000,)) == 4
    assert codec("hard").bytes((1000,)) == 2


@pytest.mark.parametrize("values", ["float16", "levels"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_likeliest_classes_and_the_rest(values, temperature):
    x = drawn(classes=300)
    found = round_trip(codec("topk", k=20, values=values, temperature=temperature), x)
    log_p = torch.from_numpy(log_softmax(x / temperature))
    order = np.sort(np.argsort(-log_p.numpy(), kind="stable")[:, :20], -1)
    assert (found[".index"].numpy() == order).all()
    kept = log_p.gather(-1, found[".index"])
    span = float((kept.amax(-1) - kept.amin(-1)).max())
    bound = 4e-3 if values == "float16" else span / 179 * 1.01 + 2e-3
    assert float((found[".log_p"] - kept).abs().max()) < bound
    rest = 1 - kept.exp().sum(-1)
    assert torch.allclose(found[".rest"].exp().double(), rest, rtol=5e-3, atol=1e-7)


@given(st.integers(2, 40), st.floats(0.1, 20), st.sampled_from(["float16", "levels"]))
def test_all_classes_kept_are_the_logits(classes, std, values):
    x = drawn(4, classes, std)
    found = round_trip(codec("topk", k=classes, values=values), x)
    assert (found[".index"] == torch.arange(classes)).all()
    assert bool((found[".rest"] < -10).all())
    log_p = torch.from_numpy(log_softmax(x))
    span = float((log_p.amax(-1) - log_p.amin(-1)).max())
    half = float(log_p.abs().max()) * 2**-11
    bound = 1.01 * half if values == "float16" else 1.01 * span / 179 + 2e-3
    assert float((found[".log_p"] - log_p).abs().max()) < bound


def test_masked_classes_are_kept_as_impossible():
    x = torch.full((1, 9), -math.inf)
    x[0, [2, 5]] = torch.tensor([1.0, 0.0])
    for values in ("float16", "levels"):
        found = round_trip(codec("topk", k=4, values=values), x)
        possible = found[".log_p"] > -math.inf
        assert found[".index"][possible].tolist() == [2, 5]
        assert torch.allclose(found[".log_p"][possible].exp().sum(), torch.tensor(1.0), atol=1e-2)


@pytest.mark.parametrize("values", ["float16", "levels"])
def test_a_bucket_makes_of_the_kept_a_divergence(values):
    x = drawn(30, 500, 3.0)
    found = round_trip(codec("topk", k=25, values=values), x)
    given = (found[".log_p"], found[".index"])
    assert 0 <= float(losses.sparse_kl(x, *given)) < 1e-3
    other = drawn(30, 500, 3.0, seed=1)
    stored, live = losses.sparse_kl(other, *given), losses.topk_kl(other, x, k=25)
    assert float(stored) == pytest.approx(float(live), rel=5e-3)
    assert float(live) <= float(losses.kl(other, x))


def gradient(loss, s):
    s = s.clone().requires_grad_()
    return torch.autograd.grad(loss(s), s)[0]


@pytest.mark.parametrize(
    "made", [codec("sampled", n=12), codec("head-and-tail", k=4, n=8)], ids=lambda m: m.name
)
def test_drawn_classes_give_the_full_gradient_on_average(made):
    """Within four standard errors of 4,000 independent rows of one source, in every class."""
    rows, classes = 4000, 30
    t, s = drawn(1, classes, 2.0), drawn(1, classes, 2.0, seed=1)
    full = gradient(lambda s: losses.kl(s, t), s)[0]
    arrays = made.encode(t.expand(rows, -1), draws(rows))
    found = made.decode(arrays, (classes,))
    each = rows * gradient(
        lambda s: losses.sparse_kl(s, found[".log_weight"], found[".index"], tail="drop"),
        s.expand(rows, -1).contiguous(),
    )
    error = each.std(0) / math.sqrt(rows)
    assert bool(((each.mean(0) - full).abs() <= 4 * error + 2e-4).all())
    if made.name == "head-and-tail":
        plain = codec("sampled", n=12)
        alone = plain.decode(plain.encode(t.expand(rows, -1), draws(rows)), (classes,))
        far = rows * gradient(
            lambda s: losses.sparse_kl(s, alone[".log_weight"], alone[".index"], tail="drop"),
            s.expand(rows, -1).contiguous(),
        )
        assert float(each.var(0).sum()) < 0.5 * float(far.var(0).sum())


def test_classes_that_cannot_be_are_never_drawn():
    x = torch.full((50, 6), -math.inf)
    x[:, 1:3] = 0.0
    made = codec("sampled", n=40)
    found = made.decode(made.encode(x, lambda n: np.full((50, n), 1.0)), (6,))
    assert set(found[".index"].flatten().tolist()) <= {1, 2}
    assert set(round_trip(made, x)[".index"].flatten().tolist()) == {1, 2}


def test_bytes_a_token_of_a_vocabulary_of_128_thousand():
    shape = (131_072,)
    assert codec("topk", k=50, values="levels").bytes(shape) <= 135
    assert codec("topk", k=50).bytes(shape) <= 190
    assert codec("sampled", n=22).bytes(shape) <= 40
    assert codec("logits").bytes(shape) == 2 * 131_072 + 4


@pytest.mark.parametrize("name", ["logits", "hard", "topk", "sampled", "head-and-tail"])
def test_one_class_has_no_distribution(name):
    settings = {"topk": {"k": 1}, "sampled": {"n": 1}, "head-and-tail": {"k": 1, "n": 1}}
    with pytest.raises(LimbeckError, match=r"at least 2 classes .* got rows of \(1,"):
        codec(name, **settings.get(name, {})).check((1,))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 2, "temperature": 0}, "temperature must be positive, got 0"),
        ({"k": 2, "values": "level"}, "values must be 'float16' or 'levels', got 'level'"),
        ({"k": 1.5}, r"k must be in 1 \.\.\. 5, got 1.5"),
    ],
)
def test_settings_that_mean_nothing(settings, message):
    with pytest.raises(LimbeckError, match=message):
        codec("topk", **settings).check((5,))


def test_codecs_and_settings_that_are_not_there():
    with pytest.raises(LimbeckError, match=r"got 'topp'; did you mean 'topk'\?"):
        codec("topp")
    with pytest.raises(LimbeckError, match=r"takes \['temperature', 'k', 'values'\], got 'kk'"):
        codec("topk", kk=3)
    with pytest.raises(LimbeckError, match=r"needs \['temperature', 'k', 'values'\], got \{\}"):
        codec("topk")
    with pytest.raises(LimbeckError, match=r"k must be in 1 \.\.\. 5, got 6"):
        codec("topk", k=6).check((5,))
    assert set(CODECS) >= {"float32", "topk"}
