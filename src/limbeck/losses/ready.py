"""Both sides of a feature loss, made ready: checked, in float32 or better, masked items silent."""

from typing import Any

from limbeck import ops
from limbeck.losses import reduction


def maps(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, two maps (B, C, H, W) of one batch, and which samples count."""
    if s.ndim != 4 or t.ndim != 4 or s.shape[0] != t.shape[0]:
        raise ValueError(
            "student and source must be maps (B, C, H, W) of one batch, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}; tap a layer before global pooling"
        )
    return samples(s, t, mask)


def dense(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, two maps of one batch and size, and which positions (B, H, W) count."""
    if s.ndim != 4 or t.ndim != 4 or s.shape[0] != t.shape[0] or s.shape[2:] != t.shape[2:]:
        raise ValueError(
            "student and source must be maps (B, C, H, W) of one batch and size, "
            f"got {tuple(s.shape)} and {tuple(t.shape)}; use a projector that resizes"
        )
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is None:
        return table, s, t, None
    mask = reduction.valid(table, mask, (s.shape[0], s.shape[2], s.shape[3]))
    return table, *(table.where(mask[:, None], x, 0) for x in (s, t)), mask


def present(table: Any, x: Any, absent: float) -> Any:
    """Which entries are not `absent`, the least of all; None where a look says that none is."""
    if table.visible(x) and table.size(x) > 0 and x.amin().item() > absent:
        return None
    return x != absent


def samples(s: Any, t: Any, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, two arrays (B, ...), and which samples count."""
    table = ops.of(s)
    s, t = table.float32(s), table.float32(t)
    if mask is None:
        return table, s, t, None
    mask = reduction.valid(table, mask, s.shape[:1])
    return table, *(table.where(reduction.widened(table, mask, x.ndim), x, 0) for x in (s, t)), mask


def items(s: Any, t: Any, axis: int, mask: Any) -> tuple[Any, Any, Any, Any]:
    """The operations, two arrays of one shape with channels on `axis`, and which items count."""
    reduction.same_shape(s, t)
    table = ops.TABLES[type(s)]
    s, t = table.float32(s), table.float32(t)
    if mask is None:
        return table, s, t, None
    shape = list(s.shape)
    shape.pop(axis)
    mask = reduction.valid(table, mask, tuple(shape))
    counts = table.moveaxis(mask[..., None], -1, axis)
    return table, *(table.where(counts, x, 0) for x in (s, t)), mask


def channels(table: Any, x: Any, s: Any, axis: int, name: str) -> Any:
    """One number a channel (C,) beside an array with channels on `axis`."""
    if tuple(x.shape) != (s.shape[axis],):
        raise ValueError(f"{name} must be of shape {(s.shape[axis],)}, got {tuple(x.shape)}")
    behind = -1 - axis if axis < 0 else s.ndim - 1 - axis
    return table.cast(reduction.widened(table, x, 1 + behind), s)


def pooled(table: Any, *maps: Any) -> tuple[Any, ...]:
    """Maps average-pooled to the smallest height and the smallest width among them."""
    size = (min(x.shape[2] for x in maps), min(x.shape[3] for x in maps))
    return tuple(x if tuple(x.shape[2:]) == size else table.pool(x, size) for x in maps)


def spread(table: Any, x: Any) -> Any:
    """Maps (B, C, H, W) as (B, C, H*W)."""
    return table.reshape(x, (x.shape[0], x.shape[1], x.shape[2] * x.shape[3]))
