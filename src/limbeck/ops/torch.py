"""The array operations of the losses for torch tensors."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn._reduction import get_enum
from torch.utils.checkpoint import checkpoint

from limbeck.ops.torch_binary import binary_cross_entropy as binary_cross_entropy
from limbeck.ops.torch_binary import binary_gap as binary_gap
from limbeck.ops.torch_binary import binary_kl as binary_kl
from limbeck.ops.torch_binary import mean_binary_cross_entropy as mean_binary_cross_entropy
from limbeck.ops.torch_binary import total_binary_cross_entropy as total_binary_cross_entropy
from limbeck.ops.torch_binary import total_binary_kl as total_binary_kl
from limbeck.ops.torch_buckets import bucketed as bucketed
from limbeck.ops.torch_correlations import correlations as correlations
from limbeck.ops.torch_correlations import uncorrelated as uncorrelated
from limbeck.ops.torch_directions import both_kl as both_kl
from limbeck.ops.torch_directions import shared_kl as shared_kl
from limbeck.ops.torch_directions import total_jeffreys as total_jeffreys
from limbeck.ops.torch_entropy import cross_entropy as cross_entropy
from limbeck.ops.torch_entropy import native
from limbeck.ops.torch_errors import huber as huber
from limbeck.ops.torch_errors import mean_absolute as mean_absolute
from limbeck.ops.torch_errors import mean_huber as mean_huber
from limbeck.ops.torch_errors import mean_squares as mean_squares
from limbeck.ops.torch_errors import squares as squares
from limbeck.ops.torch_kl import kl as kl
from limbeck.ops.torch_kl import total_kl as total_kl
from limbeck.ops.torch_mixtures import mixed_kl as mixed_kl
from limbeck.ops.torch_samples import cosines as cosines
from limbeck.ops.torch_samples import dots as dots
from limbeck.ops.torch_samples import gram as gram
from limbeck.ops.torch_samples import nce as nce
from limbeck.ops.torch_samples import square_distances as square_distances
from limbeck.ops.torch_state import autocasting, precisely
from limbeck.ops.torch_state import visible as visible
from limbeck.ops.torch_unit import misalignment as misalignment
from limbeck.ops.torch_unit import unit as unit

Axis = int | tuple[int, ...] | None
PRECISE = (torch.float32, torch.float64)
MEAN, SUM = get_enum("mean"), get_enum("sum")
nll = torch.ops.aten.nll_loss_forward.default

abs = torch.abs
any = torch.any
cumsum = torch.cumsum
detach = torch.Tensor.detach
exp = torch.exp
expm1 = torch.expm1
isnan = torch.isnan
log = torch.log
maximum = torch.maximum
minimum = torch.minimum
moveaxis = torch.moveaxis
relu = torch.relu
sigmoid = torch.sigmoid
softplus = F.softplus
log_sigmoid = F.logsigmoid
sqrt = torch.sqrt
where = torch.where


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """In the precision of the arrays, whatever autocast says."""
    if not autocasting():
        return torch.matmul(a, b)
    with precisely(a):
        return torch.matmul(a, b)


def float32(x: Tensor) -> Tensor:
    """At least single precision; float64 stays."""
    return x if x.dtype in PRECISE else x.to(torch.float32)


def eps(x: Tensor) -> float:
    """The relative spacing of the numbers of `x`."""
    return torch.finfo(x.dtype).eps


def integer(x: Tensor) -> bool:
    return not x.is_floating_point()


def boolean(x: Tensor) -> Tensor:
    """True where a number is not 0."""
    return x != 0


def size(x: Tensor, axis: int | None = None) -> int:
    """How many entries, of an axis or in all."""
    return x.numel() if axis is None else x.shape[axis]


def count(x: Tensor, like: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """How many are true, as a number of the type of `like`."""
    return x.sum(axis, keepdims, dtype=like.dtype)


def sum(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.sum() if axis is None else x.sum(axis, keepdims)


def above(x: Tensor, least: float) -> Tensor:
    """The entries that are larger than `least`, and NaN; 0 in place of the others."""
    return torch.threshold(x, least, 0.0)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """The sum of the products of two arrays of one shape."""
    return torch.dot(x, y) if x.ndim == 1 and x.dtype == y.dtype else (x * y).sum()


def mean(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    return x.mean() if axis is None else x.mean(axis, keepdims)


def max(x: Tensor, axis: int | tuple[int, ...], keepdims: bool = False) -> Tensor:
    """The largest entries; the gradient is shared where several are the largest."""
    return x.amax(axis, keepdims)


def argmax(x: Tensor) -> Tensor:
    """The index of the largest entry of the last axis."""
    return x.argmax(-1)


def at_least(x: Tensor, low: float) -> Tensor:
    return x.clamp(min=low)


def reshape(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.reshape(shape)


def concat(xs: Sequence[Tensor], axis: int) -> Tensor:
    return torch.cat(list(xs), axis)


def stack(xs: Sequence[Tensor], axis: int) -> Tensor:
    return torch.stack(list(xs), axis)


def arange(n: int, like: Tensor) -> Tensor:
    """The integers 0 ... n - 1."""
    return torch.arange(n, device=like.device)


def zeros(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Zeros of the type of `like`."""
    return like.new_zeros(shape)


def cast(x: Tensor, like: Tensor) -> Tensor:
    """Numbers or booleans in the type of `like`."""
    return x.to(like.dtype)


def sort(x: Tensor, descending: bool = False) -> Tensor:
    """The last axis in order."""
    return x.sort(dim=-1, descending=descending).values


def ranked(x: Tensor) -> tuple[Tensor, Tensor]:
    """The last axis, the largest first, and where each stood; of equal entries the first first."""
    values, order = torch.sort(x, dim=-1, descending=True, stable=True)
    return values, order


def take(x: Tensor, index: Tensor) -> Tensor:
    """x[..., index[..., k]] for every k of the last axis."""
    return x.gather(-1, index)


def put(x: Tensor, index: Tensor, value: float | Tensor) -> Tensor:
    """`x` with `value`, one or (..., K), at index[..., k] of the last axis, for every k."""
    return x.scatter(-1, index, value)


def top(x: Tensor, k: int) -> Tensor:
    """The indices of the k largest entries of the last axis, the largest first."""
    return x.topk(k).indices


def select(x: Tensor, index: Sequence[int]) -> Tensor:
    """The entries `index` of the last axis, in that order."""
    return x.index_select(-1, torch.as_tensor(index, device=x.device))


def one_hot(index: Tensor, n: int, like: Tensor) -> Tensor:
    """(...,) to (..., n) in the type of `like`; an index out of range is a row of zeros."""
    return (index[..., None] == torch.arange(n, device=index.device)).to(like.dtype)


def expand(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.expand(shape)


def eye(n: int, like: Tensor) -> Tensor:
    """The boolean identity matrix."""
    return torch.eye(n, dtype=torch.bool, device=like.device)


def mean_cross_entropy(s: Tensor, target: Tensor) -> Tensor:
    """The mean of the rows whose integer target is not -100; 0 where there is none."""
    if s.ndim > 2:
        s, target = s.flatten(0, -2), target.flatten()
    if visible(s):
        mean = native(s, target, None, MEAN, -100, 0.0)
        if not math.isnan(mean.item()):  # as it is where no row counts
            return mean
    total, labels = nll(torch.log_softmax(s, -1), target, None, SUM, -100)
    return total / labels.clamp(min=1)


def mean_soft_cross_entropy(s: Tensor, target: Tensor) -> Tensor:
    """The mean of the rows, whose target is a distribution."""
    if visible(s):
        mean = native(s.flatten(0, -2), target.flatten(0, -2), None, MEAN, -100, 0.0)
        if not math.isnan(mean.item()):  # as it is where a class is -inf
            return mean
    return cross_entropy(s, target).mean()


def log_softmax(x: Tensor) -> Tensor:
    return torch.log_softmax(x, -1)


def layer_norm(x: Tensor, eps: float) -> Tensor:
    """The last axis with mean 0 and variance 1, `eps` joining the variance."""
    return F.layer_norm(x, x.shape[-1:], eps=eps)


def batch_norm(x: Tensor, eps: float) -> Tensor:
    """The columns of (N, C) with mean 0 and variance 1, `eps` joining the variance."""
    if len(x) < 2:  # the native op refuses
        return x - x
    return F.batch_norm(x, None, None, training=True, eps=eps)


def softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, -1)


def logsumexp(x: Tensor, axis: int = -1) -> Tensor:
    return torch.logsumexp(x, axis)


def mean_log_softmax(x: Tensor) -> Tensor:
    """Rows of the mean of log softmax over the classes that are not -inf."""
    log_q = torch.log_softmax(x, -1)
    alive = ~log_q.isneginf()
    return torch.where(alive, log_q, 0).sum(-1) / alive.sum(-1)


def pool(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive average pooling of (B, C, H, W)."""
    return F.adaptive_avg_pool2d(x, size)


def bilinear(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) at another size, between the centres of the four closest entries."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def max_pool(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Largest of windows side by side of (B, C, H, W); the last may reach over the edge."""
    return F.max_pool2d(x, window, ceil_mode=True)


def nearest(x: Tensor, size: tuple[int, int]) -> Tensor:
    """The last two axes at another size: entry i of an axis is entry floor(i * old / new)."""
    for axis, n in zip((-2, -1), size, strict=True):
        if x.shape[axis] != n:
            index = torch.arange(n, device=x.device) * x.shape[axis] // n
            x = x.index_select(axis, index)
    return x


def recomputed(function: Callable[..., Tensor], *arrays: Tensor) -> Tensor:
    """function(*arrays), whose intermediates are computed again for the gradient, not kept."""
    return checkpoint(function, *arrays, use_reentrant=False, preserve_rng_state=False)


def svd(x: Tensor) -> tuple[Tensor, Tensor]:
    """Singular values (..., R) and right singular vectors (..., D, R) of matrices (..., N, D)."""
    _, sigma, v = torch.linalg.svd(x, full_matrices=False)
    return sigma, v.mT


def rows(x: Tensor) -> Tensor:
    """(B, ...) as (B, D)."""
    return x.flatten(1) if x.ndim > 1 else x.unsqueeze(1)
