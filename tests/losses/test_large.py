"""Losses over large vocabularies equal the plain ones, in the memory of a chunk."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests.losses.subject import finite, normal, same
from tests.losses.test_cases import SEQ_S, SEQ_T, right
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from limbeck import losses
from limbeck.losses.divergences import akl, jeffreys, jsd, skew_kl, skew_reverse_kl, total_variation
from limbeck.losses.sparse import sparse_kl

each = pytest.mark.parametrize
DIVERGENCES = {
    "kl": losses.kl,
    "reverse_kl": losses.reverse_kl,
    "jeffreys": jeffreys,
    "jsd": partial(jsd, mixture=0.3),
    "skew_kl": skew_kl,
    "skew_reverse_kl": partial(skew_reverse_kl, alpha=0.2),
    "akl": akl,
}


class Layers:
    """Hidden states and last layers of a student and a teacher: 2 x 5 tokens, 11 words."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        self.s = normal(0, 2, 5, 4).to(dtype).requires_grad_()
        self.s_weight = normal(1, 11, 4).to(dtype).requires_grad_()
        self.s_bias = normal(2, 11).to(dtype).requires_grad_()
        self.t, self.t_weight, self.t_bias = (
            normal(seed, *shape).to(dtype)
            for seed, shape in ((3, (2, 5, 3)), (4, (11, 3)), (5, (11,)))
        )

    def learned(self) -> list[Tensor]:
        return [self.s, self.s_weight, self.s_bias]

    def logits(self) -> tuple[Tensor, Tensor]:
        s = F.linear(self.s, self.s_weight, self.s_bias)
        return s, F.linear(self.t, self.t_weight, self.t_bias)

    def fused(self, **keys: Any) -> Tensor:
        biases = {"s_bias": self.s_bias, "t_bias": self.t_bias}
        return losses.linear_kl(self.s, self.s_weight, self.t, self.t_weight, **biases, **keys)


def agree(value: Tensor, plain: Tensor, learned: list[Tensor], tolerance: float = 1e-10) -> None:
    """Value and gradients, of a scaled loss."""
    same(value.detach(), plain.detach(), tolerance)
    got, expected = (torch.autograd.grad(0.3 * x, learned) for x in (value, plain))
    for a, b in zip(got, expected, strict=True):
        same(a, b, tolerance)


def keywords(kind: str) -> dict[str, Any]:
    mask = torch.from_numpy(np.random.default_rng(0).random((2, 5)) < 0.6)
    return {
        "plain": {},
        "masked": {"mask": mask},
        "by sample": {"mask": torch.tensor([False, True]), "weight": torch.tensor([3.0, 0.5])},
        "weighted": {"mask": mask, "weight": normal(1, 2, 5).abs(), "count": 3.5},
    }[kind]


@each("chunk", [1, 3, 7, 10, 64, None])
@each("kind", ["plain", "masked", "by sample", "weighted"])
@each("temperature", [1.0, 3.0])
def test_kl_in_chunks_is_kl(chunk: int | None, kind: str, temperature: float) -> None:
    layers, keys = Layers(), keywords(kind)
    plain = losses.kl(*layers.logits(), temperature=temperature, **keys)
    keys |= {"temperature": temperature, "chunk": chunk}
    agree(layers.fused(**keys), plain, layers.learned())
    s, t = (x.detach() for x in layers.logits())
    s.requires_grad_()
    plain = losses.kl(s, t, temperature=temperature, **keywords(kind))
    agree(losses.chunked_kl(s, t, **keys), plain, [s])


@each("name", DIVERGENCES)
@each("kind", ["plain", "weighted"])
def test_any_divergence_is_fused(name: str, kind: str) -> None:
    layers, loss, keys = Layers(), DIVERGENCES[name], keywords(kind)
    plain = loss(*layers.logits(), temperature=2.0, **keys)
    fused = layers.fused(divergence=loss, temperature=2.0, chunk=3, **keys)
    agree(fused, plain, layers.learned())


def test_a_divergence_without_a_temperature_is_fused() -> None:
    layers = Layers()
    fused = layers.fused(divergence=total_variation, chunk=4)
    agree(fused, total_variation(*layers.logits()), layers.learned())


@each("tail", ["bucket", "renormalise", "drop"])
@each("kind", ["plain", "masked", "weighted"])
def test_stored_targets_are_fused_with_the_student(tail: Any, kind: str) -> None:
    layers, keys = Layers(), keywords(kind)
    s, t = layers.logits()
    log_p, index = (t / 2).log_softmax(-1).topk(4)
    plain = sparse_kl(s, log_p, index, tail=tail, temperature=2.0, **keys)
    options = {"tail": tail, "temperature": 2.0, "chunk": 3, "s_bias": layers.s_bias}
    fused = losses.linear_sparse_kl(layers.s, layers.s_weight, log_p, index, **options, **keys)
    agree(fused, plain, layers.learned())


def test_all_targets_stored_are_the_dense_ones() -> None:
    layers = Layers()
    s, t = layers.logits()
    log_p, index = t.log_softmax(-1).topk(11)
    bias = {"s_bias": layers.s_bias}
    fused = losses.linear_sparse_kl(layers.s, layers.s_weight, log_p, index, **bias)
    agree(fused, losses.kl(s, t), layers.learned())


@each("size", [1, 2, 3, 8])
def test_b053_chunks_share_one_divisor(size: int) -> None:
    mask = torch.tensor([True, True, False])
    s = SEQ_S.clone().requires_grad_()
    value = losses.chunked_kl(s, SEQ_T, mask=mask, chunk=size)
    assert value.item() == right(0.537492192)
    agree(value, losses.kl(s, SEQ_T, mask=mask), [s])
    words = torch.eye(4, dtype=torch.float64)
    assert losses.linear_kl(s, words, SEQ_T, words, mask=mask, chunk=size).item() == right(
        0.537492192
    )


def test_nothing_valid_gives_zero_with_a_gradient_path() -> None:
    layers, nothing = Layers(), torch.zeros(2, 5, dtype=torch.bool)
    s, t = (x.detach().requires_grad_() for x in layers.logits())
    for value, learned in (
        (layers.fused(mask=nothing), layers.learned()),
        (losses.chunked_kl(s, t, mask=nothing), [s]),
    ):
        grads = torch.autograd.grad(value, learned)
        assert value == 0
        assert not any(g.any() for g in grads)


@each("garbage", [float("nan"), float("inf"), 1e30])
def test_masked_tokens_do_not_matter(garbage: float) -> None:
    layers, mask = Layers(), keywords("masked")["mask"]
    s, t = (x.detach().masked_fill(~mask[..., None], garbage) for x in layers.logits())
    value = losses.chunked_kl(s.requires_grad_(), t, mask=mask)
    (grad,) = torch.autograd.grad(value, s)
    same(value.detach(), losses.kl(*layers.logits(), mask=mask).detach())
    assert finite(grad)
    expected = layers.fused(mask=mask).item()
    with torch.no_grad():
        layers.s[~mask] = garbage
    layers.t[~mask] = garbage
    value = layers.fused(mask=mask)
    assert value.item() == right(expected)
    assert finite(*torch.autograd.grad(value, layers.learned()))


def test_equal_sides_give_zero() -> None:
    layers = Layers(torch.float32)
    s, weight = layers.s, layers.s_weight
    value = losses.linear_kl(s, weight, s, weight, temperature=3.0, chunk=4)
    assert value == 0
    assert not any(g.any() for g in torch.autograd.grad(value, [s, weight]))
    words = torch.tensor([[0.0, 1.0, -torch.inf]], requires_grad=True)
    value = losses.chunked_kl(words, words.detach())
    assert value == 0
    assert not torch.autograd.grad(value, words)[0].any()


@each("create_graph", [True, False])
@each("kind", ["hidden", "logits"])
def test_a_second_derivative_is_refused(kind: str, create_graph: bool) -> None:
    layers = Layers()
    s, t = (x.detach().requires_grad_() for x in layers.logits())
    value = layers.fused() if kind == "hidden" else losses.chunked_kl(s, t)
    leaf = layers.s if kind == "hidden" else s
    if not create_graph:
        torch.autograd.grad(value, leaf, retain_graph=True)
    with pytest.raises(RuntimeError, match="must be differentiated once"):
        torch.autograd.grad(value, leaf, create_graph=create_graph, retain_graph=True)


@each("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_in_float32_inside(dtype: torch.dtype) -> None:
    layers = Layers(dtype)
    exact = Layers()
    for name, x in vars(layers).items():
        vars(exact)[name] = x.detach().double().requires_grad_(x.requires_grad)
    value, plain = layers.fused(chunk=2), exact.fused()
    assert value.dtype == torch.float32
    same(value.double().detach(), plain.detach(), 0.05)  # the logits have three digits
    grads = torch.autograd.grad(value, layers.learned())
    for g, e in zip(grads, torch.autograd.grad(plain, exact.learned()), strict=True):
        assert g.dtype == dtype
        torch.testing.assert_close(g.double(), e, rtol=0.1, atol=0.05 * e.abs().max().item())
    s, t = (x.detach().requires_grad_() for x in layers.logits())
    chunked = losses.chunked_kl(s, t, chunk=2)
    same(chunked.detach(), losses.kl(s, t).detach(), 1e-6)
    assert torch.autograd.grad(chunked, s)[0].dtype == dtype


def test_autocast_decides_the_layers_alone() -> None:
    layers = Layers(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value, plain = layers.fused(chunk=3), losses.kl(*layers.logits())
    assert value.dtype == torch.float32
    same(value.detach(), plain.detach(), 1e-5)
    got, expected = (torch.autograd.grad(x, layers.learned()) for x in (value, plain))
    for g, e in zip(got, expected, strict=True):
        assert g.dtype == torch.float32
        torch.testing.assert_close(g, e, rtol=0.05, atol=0.02 * e.abs().max().item())


def test_autocast_leaves_the_gradients_of_a_chunk_precise() -> None:
    layers = Layers(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        value, (s, t) = layers.fused(chunk=3), layers.logits()
    s = s.detach().float().requires_grad_()
    (g,) = torch.autograd.grad(losses.kl(s, t.float()), s)
    g, hidden = g.flatten(0, 1), layers.s.flatten(0, 1)
    exact = (g @ layers.s_weight).view_as(layers.s), g.t() @ hidden, g.sum(0)
    for got, expected in zip(torch.autograd.grad(value, layers.learned()), exact, strict=True):
        same(got, expected.detach(), 1e-5)


class Largest(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        known = {x.untyped_storage().data_ptr() for x in args if isinstance(x, Tensor)}
        for x in made if isinstance(made, tuple) else (made,):
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in known:
                self.bytes = max(self.bytes, x.numel() * x.element_size())
        return made


def largest(run: Callable[[], Any]) -> int:
    with Largest() as found:
        run()
    return found.bytes


@each("chunk", [8, 64])
def test_b128_nothing_larger_than_a_chunk_is_made(chunk: int) -> None:
    tokens, words = 128, 2048
    s, t = normal(0, tokens, 4).bfloat16(), normal(1, tokens, 4).bfloat16()
    s_weight, t_weight = normal(2, words, 4).bfloat16(), normal(3, words, 4).bfloat16()
    s.requires_grad_()
    fused = partial(losses.linear_kl, s, s_weight, t, t_weight, chunk=chunk)
    assert largest(lambda: fused().backward()) == chunk * words * 4
    assert largest(lambda: fused(divergence=losses.reverse_kl).backward()) == chunk * words * 4
    x, y = (a.detach() @ b.t() for a, b in ((s, s_weight), (t, t_weight)))
    x.requires_grad_()
    made = largest(lambda: losses.chunked_kl(x, y, chunk=chunk).backward())
    assert made == max(chunk * words * 4, x.numel() * 2)


def test_no_gradient_is_formed_where_none_is_wanted() -> None:
    layers = Layers()
    layers.s_weight = normal(1, 500, 4).requires_grad_()
    layers.t_weight, layers.s_bias = normal(2, 500, 3), normal(3, 500).requires_grad_()
    layers.t_bias = normal(4, 500)
    with torch.no_grad():
        made = largest(lambda: layers.fused(chunk=2))
    assert made == 2 * 500 * 8


def test_b119_a_layer_with_an_adapter_learns_through_its_effective_weight() -> None:
    layers = Layers()
    base, down, up = layers.s_weight.detach(), normal(7, 2, 4), normal(8, 11, 2)
    learned = [down.requires_grad_(), up.requires_grad_()]
    fused = losses.linear_kl(layers.s, base + up @ down, layers.t, layers.t_weight)
    plain = losses.kl(layers.s @ (base + up @ down).t(), layers.t @ layers.t_weight.t())
    agree(fused, plain, learned)


def test_a_weight_shared_with_the_embedding_gets_both_gradients() -> None:
    embedding = nn.Embedding(11, 4, dtype=torch.float64)
    layers, ids = Layers(), torch.tensor([[0, 3, 5, 3, 10]])
    t = layers.t[:1]
    grads = []
    for fused in (True, False):
        hidden, weight = embedding(ids).tanh(), embedding.weight
        value = (
            losses.linear_kl(hidden, weight, t, layers.t_weight, chunk=2)
            if fused
            else losses.kl(hidden @ weight.t(), t @ layers.t_weight.t())
        )
        grads.append(torch.autograd.grad(value, weight)[0])
    same(*grads)


def test_the_source_gets_no_gradient() -> None:
    layers = Layers()
    layers.t_weight.requires_grad_()
    value = layers.fused()
    assert torch.autograd.grad(value, layers.t_weight, allow_unused=True)[0] is None


def test_128_thousand_classes_keep_five_digits_in_float32() -> None:
    random = torch.Generator().manual_seed(0)
    s, t = (torch.empty(24, 128_000).normal_(generator=random) for _ in "st")
    exact = losses.kl(s.double(), t.double()).item()
    assert losses.chunked_kl(s, t).item() == pytest.approx(exact, rel=1e-6)


def test_compiled_code_steps_around_the_chunks() -> None:
    layers = Layers()
    compiled = torch.compile(layers.fused, backend="eager")
    agree(compiled(chunk=4), losses.kl(*layers.logits()), layers.learned())


X = torch.zeros(2, 3, 4)


@each(
    ("call", "message"),
    [
        (lambda: losses.linear_kl(X, X[0], X, X[0, :2]), "vocabularies must be equal, got 3 and 2"),
        (lambda: losses.linear_kl(X, X[0], X[:1], X[0]), "must have the same tokens"),
        (lambda: losses.linear_kl(X, X[0, :, :3], X, X[0]), r"got \(3, 3\) and no bias for"),
        (lambda: losses.linear_kl(X, X[0], X, X[0], t_bias=X[0, 0]), r"and a bias \(4,\) for"),
        (lambda: losses.linear_sparse_kl(X, X[0].t(), X, X.long()), r"must have a weight \(V, D\)"),
        (lambda: losses.linear_kl(X, X[0], X, X[0], chunk=0), "chunk must be at least 1, got 0"),
        (lambda: losses.linear_kl(X, X[0], X, X[0], mask=X[..., 0].new_ones(3)), "mask must"),
        (lambda: losses.chunked_kl(X, X, chunk=-1), "chunk must be at least 1"),
        (lambda: losses.chunked_kl(X, X, count=0), "count must be positive"),
        (lambda: losses.chunked_kl(X, X[:1]), "one shape"),
        (lambda: losses.chunked_kl(X.numpy(), X.numpy()), "take torch tensors"),
        (
            lambda: losses.chunked_kl(X, X, temperature=torch.ones((), requires_grad=True)),
            "temperature must not learn",
        ),
    ],
)
def test_misuse_is_refused_by_name(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
