"""Losses over large vocabularies, in chunks of tokens: for torch tensors alone.

N tokens in any shape, V vocabulary, D width of the hidden states, s and t student and source. Each
value is that of the plain loss of all logits. The gradient is formed in the forward: it can be had
once, and not differentiated again.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from limbeck import ops
from limbeck.losses import reduction
from limbeck.losses.logits import kl
from limbeck.losses.sparse import Tail, sparse_kl


def linear_kl(
    s_hidden: Any,
    s_weight: Any,
    t_hidden: Any,
    t_weight: Any,
    *,
    s_bias: Any = None,
    t_bias: Any = None,
    divergence: Callable[..., Any] = kl,
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
    chunk: int | None = None,
) -> Any:
    """The divergence of two language models from what enters their last layers.

    `divergence(s_hidden @ s_weight' + s_bias, t_hidden @ t_weight' + t_bias)` without ever holding
    the logits: memory above the inputs is that of the gradients and of some chunks of logits.
    Masked tokens are left out of the work. A layer with an adapter gives its effective weight.

    Args:
        s_hidden: student hidden states (..., D).
        s_weight: weight of its last layer (V, D); it may be shared with the embedding.
        t_hidden: source hidden states (..., D'), of the same tokens.
        t_weight: weight of its last layer (V, D').
        s_bias, t_bias: biases (V,), or none.
        divergence: a loss of logits from `limbeck.losses`, its own keywords bound by
            `functools.partial`; `kl` takes the least memory.
        temperature: T > 0, a number or a scalar array that does not learn.
        mask: tokens that count, of the shape of `s_hidden` without D or a prefix of it.
        weight: factor of each token, not part of the divisor.
        count: divisor in place of the number of valid tokens.
        chunk: tokens at a time; a sixteenth of them unless said, at least 48.

    Returns:
        A scalar, in float32 or better.

    Raises:
        ValueError: tokens or vocabularies that differ, a layer that does not fit its hidden
            states, a temperature that learns.
        RuntimeError: a second backward, or one with `create_graph`.

    Example:
        >>> import torch
        >>> from limbeck import losses
        >>> s, t = torch.eye(3), 2 * torch.eye(3)
        >>> value = linear_kl(s, torch.ones(5, 3).tril(), t, torch.ones(5, 3).triu())
        >>> plain = losses.kl(s @ torch.ones(5, 3).tril().T, t @ torch.ones(5, 3).triu().T)
        >>> round(value.item(), 5) == round(plain.item(), 5)
        True
    """
    if s_weight.shape[0] != t_weight.shape[0]:
        raise ValueError(
            f"vocabularies must be equal, got {s_weight.shape[0]} and {t_weight.shape[0]}; "
            "cut padding rows off the longer weight"
        )
    _fit(s_hidden, s_weight, s_bias)
    _fit(t_hidden, t_weight, t_bias)
    engine, temperature = _engine(s_hidden), _fixed(temperature)
    share, valid = _shares(s_hidden, mask, weight, count)
    s, t, share = (_rows(x, s_hidden, valid) for x in (s_hidden, t_hidden, share))
    t, t_weight = t.detach(), t_weight.detach()

    def theirs(rows: slice) -> Any:
        return engine.projected(t[rows], t_weight, t_bias)

    def loss(logits: Any, rows: slice) -> Any:
        sides = logits / temperature, theirs(rows) / temperature
        return divergence(*sides, weight=share[rows], count=1) * temperature**2

    score = engine.by_autograd(loss)
    if divergence is kl:
        score = engine.by_kl(theirs, temperature, share * temperature**2, owned=True)
    return engine.over_linear(s, s_weight, s_bias, score, _chunk(chunk, s))


def linear_sparse_kl(
    s_hidden: Any,
    s_weight: Any,
    t: Any,
    index: Any,
    *,
    s_bias: Any = None,
    tail: Tail = "bucket",
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
    chunk: int | None = None,
) -> Any:
    """`sparse_kl` from what enters the student's last layer: its logits are never held.

    Args:
        s_hidden, s_weight, s_bias: as in `linear_kl`.
        t: log probabilities (..., k) of the source's kept tokens.
        index: which tokens these are, integers (..., k).
        tail, temperature: as in `sparse_kl`.
        mask, weight, count, chunk: as in `linear_kl`.

    Returns:
        A scalar, in float32 or better.

    Raises:
        ValueError: as `sparse_kl`, a layer that does not fit, a temperature that learns.
        RuntimeError: a second backward, or one with `create_graph`.

    Example:
        >>> import torch
        >>> from limbeck import losses
        >>> s, t = torch.eye(4), torch.tensor([[0.5, 0.3]] * 4).log()
        >>> index = torch.tensor([[0, 1]] * 4)
        >>> value = linear_sparse_kl(s, torch.eye(4), t, index)
        >>> round(value.item(), 5) == round(losses.sparse_kl(s, t, index).item(), 5)
        True
    """
    _fit(s_hidden, s_weight, s_bias)
    engine, temperature = _engine(s_hidden), _fixed(temperature)
    share, valid = _shares(s_hidden, mask, weight, count)
    s, t, index, share = (_rows(x, s_hidden, valid) for x in (s_hidden, t.detach(), index, share))
    kept = partial(sparse_kl, tail=tail, temperature=temperature, count=1)

    def loss(logits: Any, rows: slice) -> Any:
        return kept(logits, t[rows], index[rows], weight=share[rows])

    score = engine.by_autograd(loss)
    return engine.over_linear(s, s_weight, s_bias, score, _chunk(chunk, s))


def chunked_kl(
    s: Any,
    t: Any,
    *,
    temperature: Any = 1.0,
    mask: Any = None,
    weight: Any = None,
    count: Any = None,
    chunk: int | None = None,
) -> Any:
    """`kl` of logits that exist, in the memory of their gradient and a few rows.

    Rows are summed before the total, so that float32 keeps its digits at any V.

    Args:
        s: student logits (..., V).
        t: source logits of the same shape.
        temperature: T > 0, a number or a scalar array that does not learn.
        mask, weight, count: as in `kl`.
        chunk: tokens at a time; unless said 16, and off the CPU a 64th of them if that is more.

    Returns:
        A scalar >= 0; exactly 0 where both sides are equal.

    Raises:
        ValueError: shapes that differ, a temperature that learns.
        RuntimeError: a second backward, or one with `create_graph`.

    Example:
        >>> import torch
        >>> s, t = torch.tensor([[1.0, 2.0, 0.5]]), torch.tensor([[2.0, 1.0, 0.0]])
        >>> round(chunked_kl(s, t, temperature=4).item(), 4)
        0.3951
    """
    reduction.same_shape(s, t)
    engine, temperature = _engine(s), _fixed(temperature)
    share, valid = _shares(s, mask, weight, count)
    s, t, share = (_rows(x, s, None) for x in (s, t.detach(), share))
    valid = valid if valid is None else valid.reshape(-1, 1)
    factor = share * temperature**2
    score = engine.by_kl(lambda rows: t[rows], temperature, factor, valid=valid, owned=False)
    few = 16 if s.device.type == "cpu" else max(16, len(s) // 64)
    return engine.over_logits(s, score, few if chunk is None else _chunk(chunk, s))


def _engine(x: Any) -> ModuleType:
    """The chunked losses of torch."""
    if ops.of(x).__name__ != "limbeck.ops.torch":
        raise ValueError(
            f"losses in chunks take torch tensors, got {type(x).__name__}; "
            "take the plain loss of the logits"
        )
    from limbeck.ops import chunks

    return chunks


def _fit(hidden: Any, weight: Any, bias: Any) -> None:
    """Raises ValueError unless a last layer takes these hidden states."""
    if hidden.shape[-1:] != weight.shape[1:] or (
        bias is not None and bias.shape != weight.shape[:1]
    ):
        of_bias = "no bias" if bias is None else f"a bias {tuple(bias.shape)}"
        raise ValueError(
            f"a last layer must have a weight (V, D) and a bias (V,) for hidden states (..., D), "
            f"got {tuple(weight.shape)} and {of_bias} for {tuple(hidden.shape)}"
        )


def _fixed(temperature: Any) -> float:
    """The temperature as a number."""
    if getattr(temperature, "requires_grad", False):
        raise ValueError(
            "temperature must not learn here, got a tensor with a gradient; "
            "take the plain loss of the logits, or detach it"
        )
    return float(temperature)


def _shares(x: Any, mask: Any, weight: Any, count: Any) -> tuple[Any, Any]:
    """Each token's factor over the divisor, and which tokens count, of the shape of the tokens."""
    table, tokens = ops.of(x), x.shape[:-1]
    share = table.float32(table.zeros(tokens, x)) + 1
    if weight is not None:
        share = share * reduction.widened(table, weight, len(tokens))
    if mask is None:
        return share / reduction.divisor(table, table.size(share), count), None
    valid = reduction.valid(table, mask, tokens)
    known = table.count(valid, share)
    return table.where(valid, share, 0) / reduction.divisor(table, known, count), valid


def _rows(x: Any, like: Any, valid: Any) -> Any:
    """The valid tokens of (..., D) or (...) in one row each."""
    tokens = like.shape[:-1]
    if x.shape[: len(tokens)] != tokens:
        raise ValueError(
            f"student and source must have the same tokens, got {tuple(tokens)} "
            f"and {tuple(x.shape[: len(tokens)])}"
        )
    return x.flatten(0, len(tokens) - 1) if valid is None else x[valid]


def _chunk(chunk: int | None, s: Any) -> int:
    """Tokens at a time."""
    if chunk is None:
        return max(48, -(-len(s) // 16))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    return chunk
