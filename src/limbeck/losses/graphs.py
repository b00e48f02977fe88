"""Losses on graphs of a batch: samples are nodes, distances between them are edges (IRG).

B samples, D features of a sample (everything but the first axis, flattened), s and t student and
source. The nodes themselves are matched by `hint` on logits.
"""

from typing import Any

from limbeck.losses import batches, differences, ready

LEAST = 1e-37  # keeps 0 / 0 a number


def irg_edge(s: Any, t: Any, *, mask: Any = None) -> Any:
    """Edges of the instance relationship graph: squared distances between samples.

    mean_ij (E(s)_ij - E(t)_ij)^2, E_ij = ||x_i - x_j||^2 / max_kl ||x_k - x_l||^2, over all B^2
    pairs. Samples that all coincide have E = 0.

    Args:
        s: student features (B, ...).
        t: source features (B, ...), of any width.
        mask: samples (B,) that count.

    Returns:
        A scalar in [0, 1] without unit, free of the features' scale.

    Raises:
        ValueError: batches that differ.

    Example:
        >>> import numpy as np
        >>> s, t = np.array([[0.0], [1.0], [2.0]]), np.array([[0.0], [2.0], [2.0]])
        >>> round(float(irg_edge(s, t)), 6)
        0.138889

    Paper:
        Liu et al., "Knowledge distillation via instance relationship graph", CVPR 2019. The authors
        published Caffe code; dividing by the maximum is the custom of PyTorch ports, equal to this.
        The paper writes the squared norm of the difference without it.
    """
    table, s, t, alive = batches.embeddings(s, t, mask)
    e_s, e_t = (_edges(table, x, alive) for x in (s, t))
    pairs = batches.number_of_pairs(table, alive, s)
    return differences.whole(table, table.mean_squares, e_s, e_t, pairs)


def irg_transform(s: Any, t: Any, s_next: Any, t_next: Any, *, mask: Any = None) -> Any:
    """Transformation of the instance relationship graph: how far a sample moves between two layers.

    mean_i (d(s)_i - d(t)_i)^2, d_i = ||x_i - y_i||^2 / max_k ||x_k - y_k||^2, x and y one network's
    features in a layer and in a later one. Maps of two sizes are average-pooled to the smaller; the
    two layers of a network must have as many channels, as within a stage.

    Args:
        s: student features (B, ...) of the earlier layer.
        t: source features (B, ...) of the earlier layer, of any width.
        s_next: student features of the later layer.
        t_next: source features of the later layer.
        mask: samples (B,) that count.

    Returns:
        A scalar in [0, 1] without unit; always 0 for a single sample.

    Raises:
        ValueError: batches that differ, layers of a network whose channels differ.

    Example:
        >>> import numpy as np
        >>> x, y = np.array([[0.0], [0.0]]), np.array([[1.0], [2.0]])
        >>> round(float(irg_transform(x, x, y, y[::-1])), 6)
        0.5625

    Paper:
        As `irg_edge`; equal to the PyTorch port.
    """
    table, s, t, mask = ready.samples(s, t, mask)
    _, s_next, t_next, _ = ready.samples(s_next, t_next, mask)
    d_s, d_t = (_over_largest(table, _moved(table, x, y)) for x, y in ((s, s_next), (t, t_next)))
    if d_s.shape != d_t.shape:
        raise ValueError(
            f"student and source must have one batch, got {tuple(s.shape)} and {tuple(t.shape)}"
        )
    return differences.entries(table, d_s, d_t, mask, None, None)


def _edges(table: Any, x: Any, alive: Any) -> Any:
    """Squared distances over the largest (B, B), which they are exact beside."""
    x = batches.centred(table, x, alive)
    lengths = table.sum(x * x, -1)
    square = table.relu(lengths[:, None] + lengths - 2 * table.gram(x))
    return _over_largest(
        table, square if alive is None else table.where(batches.pairs(alive), square, 0)
    )


def _over_largest(table: Any, x: Any) -> Any:
    """Numbers >= 0 over the largest of them."""
    if 0 in x.shape:
        return x
    return x / table.at_least(table.max(x, tuple(range(x.ndim))), LEAST)


def _moved(table: Any, x: Any, y: Any) -> Any:
    """Squared distances of the samples between two layers (B,)."""
    if x.ndim == 4 and y.ndim == 4:
        x, y = ready.pooled(table, x, y)
    if x.shape != y.shape:
        raise ValueError(
            "two layers of a network must have one width, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}; take both from one stage"
        )
    return table.sum(table.rows(table.squares(x, y)), -1)
