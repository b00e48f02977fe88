"""Tokens as they are before losses see them: labels one place on, grids of patches.

B batch, N tokens, D width, H and W height and width of a grid.
"""

import math
from typing import Any

from limbeck import ops
from limbeck.errors import LimbeckError


def causal(labels: Any, attention_mask: Any = None, *, ignored: int = -100) -> tuple[Any, Any]:
    """What a causal model's logits are taught: targets and the mask of its positions.

    The logits at position i speak of token i + 1. So `target[i] = labels[i + 1]`, the last position
    has none, and `mask` says where there is one. Both are of the logits' full length: pass them
    with logits as they are, or cut all three with `[:, :-1]`, and nothing is shifted twice.

    Args:
        labels: token ids (B, N) in the places where they stand in the inputs; `ignored` for
            prompt and padding.
        attention_mask: (B, N), 0 at padding, where the labels do not say so themselves.
        ignored: the label that teaches nothing; it becomes -100.

    Returns:
        target (B, N) with -100 where nothing is taught, and the boolean mask (B, N).

    Raises:
        LimbeckError: arrays of another shape.

    Example:
        >>> import numpy as np
        >>> target, mask = causal(np.array([[-100, -100, 11, 12, -100]]))
        >>> target.tolist(), mask.tolist()
        ([[-100, 11, 12, -100, -100]], [[False, True, True, False, False]])
    """
    if len(labels.shape) != 2 or (
        attention_mask is not None and tuple(attention_mask.shape) != tuple(labels.shape)
    ):
        masked = "" if attention_mask is None else f" and {tuple(attention_mask.shape)}"
        raise LimbeckError(
            f"labels and attention_mask must be (B, N), got {tuple(labels.shape)}{masked}"
        )
    table = ops.of(labels)
    taught = labels != ignored
    if attention_mask is not None:
        real = attention_mask != 0
        taught = taught & real & table.concat([real[:, :1], real[:, :-1]], 1)
    last = labels[:, :1] * 0 - 100
    target = table.concat([table.where(taught, labels, -100)[:, 1:], last], 1)
    return target, target != -100


def to_grid(x: Any, extra: int, size: tuple[int, int] | None = None) -> Any:
    """Tokens (B, N, D) as a map (B, D, H, W), row by row, without the `extra` tokens before it.

    Args:
        x: tokens, of which the first `extra` are class and register tokens.
        extra: how many these are: 1 for a class token alone, 5 with four registers, 0 for none.
        size: (H, W); a square unless said.

    Raises:
        LimbeckError: a number of tokens that does not fill the grid.

    Example:
        >>> import numpy as np
        >>> to_grid(np.zeros((2, 201, 384)), extra=5).shape
        (2, 384, 14, 14)
    """
    if len(x.shape) != 3 or not 0 <= extra < x.shape[1]:
        raise LimbeckError(f"tokens must be (B, N, D) with N > {extra}, got {tuple(x.shape)}")
    batch, n, width = x.shape
    side = math.isqrt(n - extra)
    height, breadth = (side, side) if size is None else size
    if height * breadth != n - extra:
        raise LimbeckError(
            f"tokens must fill a grid of {height} x {breadth} after {extra} extra tokens, got {n}; "
            "class and register tokens are extra, and a grid that is no square needs size=(H, W)"
        )
    table = ops.of(x)
    grid = table.reshape(x[:, extra:], (batch, height, breadth, width))
    return table.moveaxis(grid, -1, 1)


def to_tokens(x: Any) -> Any:
    """A map (B, C, H, W) as tokens (B, H * W, C), row by row: `to_grid` undone.

    Raises:
        LimbeckError: what is no map.

    Example:
        >>> import numpy as np
        >>> to_tokens(np.zeros((2, 512, 7, 7))).shape
        (2, 49, 512)
    """
    if len(x.shape) != 4:
        raise LimbeckError(f"a map must be (B, C, H, W), got {tuple(x.shape)}")
    table = ops.of(x)
    batch, channels, height, breadth = x.shape
    return table.moveaxis(table.reshape(x, (batch, channels, height * breadth)), 1, -1)
