"""Codecs that keep a few entries of a row over many classes.

V classes, p = softmax(x / T). Signals are read as `NAME.index` (R, K), ascending, and `NAME.log_p`
(R, K) where all entries are probabilities: then the loss's `tail` says what becomes of the other
classes. Where some are drawn they are `NAME.log_weight`, and take `tail="drop"` alone, with which
the gradient of `sparse_kl` is that of the full divergence on average.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.store.bits import pack, pack_sorted, unpack, unpack_sorted
from limbeck.store.codec import Arrays, Codec, Coded, Draws, Shape, classes
from limbeck.store.dense import lost

LEVELS = 181  # two of which are one number of 15 bits: 181 * 181 < 2**15
OVER = 1e-2  # of probability, that sums in low precision may be above 1
NEVER = LEVELS - 1  # the level of a probability of 0


@dataclass(frozen=True)
class Softened(Codec):
    """A codec of probabilities, p = softmax(x / T) at T = `temperature`."""

    temperature: float = field(default=1.0, kw_only=True)
    masks = True

    def check(self, shape: Shape) -> None:
        classes(self.name, shape)
        if not self.temperature > 0:
            raise LimbeckError(f"temperature must be positive, got {self.temperature}")


@dataclass(frozen=True)
class TopK(Softened):
    """The k largest probabilities, and the mass of all others.

    With `values="float16"` each log p is in half precision. With `"levels"` it is one of 180 steps
    between the largest and the least of its row, 7.5 bits; the largest itself is not stored, since
    all probabilities and the mass of the others sum to 1.

    Args:
        k: entries of a row.
        values: how log p is kept.
        temperature: T of p.
    """

    k: int
    values: Literal["float16", "levels"] = "float16"
    name = "topk"
    gives = (".index", ".log_p", ".rest")

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        log_p = (x / self.temperature).log_softmax(-1)
        index = log_p.topk(self.k).indices.sort(-1).values
        kept, rest = log_p.gather(-1, index), log_p.scatter(-1, index, -torch.inf)
        return self.arrays(index, kept, rest.logsumexp(-1), x.shape[-1])

    def arrays(
        self, index: Tensor, log_p: Tensor, rest: Tensor, classes: int
    ) -> dict[str, NDArray[Any]]:
        """Arrays of entries (R, k), ascending by index, and of the log mass (R,) of all others."""
        values = levels(log_p) if self.values == "levels" else {"log_p": log_p.half().numpy()}
        packed = pack_sorted(index.numpy(), classes)
        return {"index": packed, **values, "rest": rest.half().numpy()}

    def from_sparse(self, index: Tensor, log_p: Tensor, classes: int) -> Coded:
        """Rows of which only some entries are known, such as a server tells them.

        The k largest are kept, and what the kept ones leave of 1 is the mass of all others. Rows
        with fewer than k have further classes at probability 0, behind the first that is known
        wherever there are enough.

        Args:
            index: classes (R, K), each once in a row; any numbers where `log_p` is -inf.
            log_p: log probabilities (R, K) at the codec's temperature; -inf where there is none.
            classes: V.

        Raises:
            LimbeckError: a row without entries, with a class twice or outside 0 ... V - 1, with a
                NaN, with more than all of the mass, or with all classes and less than it.

        >>> known = torch.tensor([[7, 2]]), torch.tensor([[0.5, 0.25]]).log()
        >>> made = TopK(3)
        >>> found = made.decode(made.from_sparse(*known, classes=9).arrays, (9,))
        >>> found[".index"].tolist(), found[".log_p"].exp().round(decimals=2).tolist()
        ([[2, 3, 7]], [[0.25, 0.0, 0.5]])
        """
        self.check((classes,))
        check_entries(index, log_p, classes)
        index, log_p = filled(*largest(index, log_p, self.k), classes)
        mass = log_p.double().exp().sum(-1)
        arrays = self.arrays(index, log_p, (1 - mass).clamp(min=0).log(), classes)
        decoded = self.decode(arrays, (classes,))
        found = lost(log_p, decoded[".log_p"]) | rest_of(decoded) if len(log_p) else {}
        return Coded(arrays, (classes,), found)

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        rest = torch.from_numpy(arrays["rest"]).float()
        if self.values == "levels":
            log_p = from_levels(arrays, self.k, rest)
        else:
            log_p = torch.from_numpy(arrays["log_p"]).float()
        index = unpack_sorted(arrays["index"], self.k, shape[-1])
        return {".index": torch.from_numpy(index), ".log_p": log_p, ".rest": rest}

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        return kept_error(x / self.temperature, decoded) | rest_of(decoded)

    def check(self, shape: Shape) -> None:
        super().check(shape)
        fits("k", self.k, shape[-1])
        if self.values not in ("float16", "levels"):
            raise LimbeckError(f"values must be 'float16' or 'levels', got {self.values!r}")


@dataclass(frozen=True)
class Sampled(Softened):
    """n classes drawn from p, each of weight 1/n: on average the whole of p.

    Args:
        n: draws of a row, with repetition.
        temperature: T of p.

    Paper:
        Anshumann et al., "Sparse logit sampling", ACL 2025, arXiv 2503.16870.
    """

    n: int
    name = "sampled"
    gives = (".index", ".log_weight")

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        index = drawn((x / self.temperature).double().softmax(-1), draws(self.n))
        return {"index": pack_sorted(index, x.shape[-1])}

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        index = torch.from_numpy(unpack_sorted(arrays["index"], self.n, shape[-1]))
        return {".index": index, ".log_weight": torch.full(index.shape, -float(np.log(self.n)))}

    def check(self, shape: Shape) -> None:
        super().check(shape)
        fits("n", self.n)


@dataclass(frozen=True)
class HeadAndTail(Softened):
    """The k largest probabilities, and n classes drawn from all others at equal weights.

    The weights of the drawn ones sum to the mass that the head leaves, so that all entries together
    are on average the whole of p, at less variance than drawing from all of it.

    Args:
        k: exact entries of a row.
        n: drawn ones, with repetition.
        temperature: T of p.
    """

    k: int
    n: int
    name = "head-and-tail"
    gives = (".index", ".log_weight")

    def encode(self, x: Tensor, draws: Draws) -> dict[str, NDArray[Any]]:
        log_p = (x / self.temperature).double().log_softmax(-1)
        head = log_p.topk(self.k).indices.sort(-1).values
        others = log_p.exp().scatter(-1, head, 0.0)
        rest = others.sum(-1, keepdim=True)
        tail = drawn(others / rest.clamp(min=1e-300), draws(self.n))
        return {
            "head": pack_sorted(head.numpy(), x.shape[-1]),
            "log_p": log_p.gather(-1, head).half().numpy(),
            "tail": pack_sorted(tail, x.shape[-1]),
            "rest": rest.log()[..., 0].half().numpy(),
        }

    def decode(self, arrays: Arrays, shape: Shape) -> dict[str, Tensor]:
        head = torch.from_numpy(unpack_sorted(arrays["head"], self.k, shape[-1]))
        tail = torch.from_numpy(unpack_sorted(arrays["tail"], self.n, shape[-1]))
        rest = torch.from_numpy(arrays["rest"]).float()[:, None] - float(np.log(self.n))
        log_p = torch.from_numpy(arrays["log_p"]).float()
        return {
            ".index": torch.cat((head, tail), -1),
            ".log_weight": torch.cat((log_p, rest.expand(tail.shape)), -1),
        }

    def error(self, x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
        head = {
            ".index": decoded[".index"][..., : self.k],
            ".log_p": decoded[".log_weight"][..., : self.k],
        }
        return kept_error(x / self.temperature, head)

    def check(self, shape: Shape) -> None:
        super().check(shape)
        fits("k", self.k, shape[-1] - 1)
        fits("n", self.n)


def fits(what: str, k: int, most: int | None = None) -> None:
    """Raises LimbeckError unless `k` is a whole number from 1 to `most`."""
    if not isinstance(k, int) or k < 1 or (most is not None and k > most):
        limit = "1 or more" if most is None else f"in 1 ... {most}"
        raise LimbeckError(f"{what} must be {limit}, got {k}")


def kept_error(x: Tensor, decoded: Mapping[str, Tensor]) -> dict[str, float]:
    """Mean and largest error of log p at exact entries, in nats."""
    log_p = x.log_softmax(-1).gather(-1, decoded[".index"])
    return lost(log_p, decoded[".log_p"])


def drawn_anew(codec: Codec, x: Tensor, draws: Draws) -> Tensor | None:
    """The classes (R, K) that a codec keeps of rows (R, V), where it draws any of them."""
    if ".log_weight" not in codec.gives:
        return None
    return codec.decode(codec.encode(x, draws), tuple(x.shape[1:]))[".index"]


def others(index: Tensor, known: Tensor, classes: int) -> float:
    """The share of entries (R, K) that `known` has not, each as often as it has it.

    >>> others(torch.tensor([[0, 2, 2, 5]]), torch.tensor([[0, 2, 5, 5]]), classes=6)
    0.25
    """
    one, none = torch.ones(index.shape), torch.zeros(len(index), classes)
    gap = none.scatter_add(-1, index, one) - none.scatter_add(-1, known, one)
    return float(gap.abs().sum()) / (2 * index.numel())


def rest_of(decoded: Mapping[str, Tensor]) -> dict[str, float]:
    """The mean mass of the classes that are not kept."""
    return {"rest": float(decoded[".rest"].exp().mean())}


def check_entries(index: Tensor, log_p: Tensor, classes: int) -> None:
    """Raises LimbeckError for entries (R, K) that are not part of a distribution."""
    known = log_p > -torch.inf
    numbers = index[known]
    if bool(((numbers < 0) | (numbers >= classes)).any()):
        wrong = int(numbers[(numbers < 0) | (numbers >= classes)][0])
        raise LimbeckError(f"entries must be of classes 0 ... {classes - 1}, got {wrong}")
    if bool(log_p.isnan().any()):
        raise LimbeckError("log probabilities must be numbers, got NaN")
    if not bool(known.any(-1).all()):
        raise LimbeckError("every row needs an entry with a probability, got one without")
    mass = float(log_p.double().exp().sum(-1).max()) if len(log_p) else 0.0
    if mass > 1 + OVER:
        raise LimbeckError(f"probabilities of a row must sum to 1 at most, got {mass:.4g}")
    whole = log_p[known.sum(-1) == classes].double().exp().sum(-1)
    if len(whole) and float(whole.min()) < 1 - OVER:
        raise LimbeckError(
            f"probabilities of all {classes} classes must sum to 1, got {float(whole.min()):.4g}"
        )
    apart = torch.where(known, index, -1 - torch.arange(index.shape[-1])).sort(-1).values
    if bool((apart.diff(dim=-1) == 0).any()):
        raise LimbeckError("a row must have each class once, got one twice")


def largest(index: Tensor, log_p: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of entries (R, K), with entries of probability 0 behind them if K < k."""
    more = max(k - index.shape[-1], 0)
    index = torch.nn.functional.pad(index, (0, more))
    log_p = torch.nn.functional.pad(log_p.float(), (0, more), value=-torch.inf)
    kept = log_p.topk(k)
    return index.gather(-1, kept.indices), kept.values


def filled(index: Tensor, log_p: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Entries (R, k), ascending, with a class of its own for each that has no probability."""
    known = log_p > -torch.inf
    index = torch.where(known, index, classes)
    few = (~known.all(-1)).nonzero()[:, 0]
    index[few] = with_others(index[few], classes)
    index, order = index.sort(-1)
    return index, log_p.gather(-1, order)


def with_others(index: Tensor, classes: int) -> Tensor:
    """Classes (R, k), of which `classes` stands for any other: the next ones after the least."""
    after = (index.amin(-1, keepdim=True) + 1 + torch.arange(index.shape[-1])) % classes
    taken = (after[..., None] == index[:, None]).any(-1)
    free = after.gather(-1, taken.to(torch.uint8).argsort(dim=-1, stable=True))
    open_ = index == classes
    return torch.where(open_, free.gather(-1, (open_.cumsum(-1) - 1).clamp(min=0)), index)


def drawn(p: Tensor, u: NDArray[np.float64]) -> NDArray[np.int64]:
    """The classes, ascending, in which uniform numbers (R, n) fall by probabilities (R, V)."""
    edges = p.cumsum(-1)
    places = torch.from_numpy(u) * edges[:, -1:]
    index = torch.searchsorted(edges, places, right=True)
    last = p.shape[-1] - 1 - p.flip(-1).gt(0).to(torch.uint8).argmax(-1, keepdim=True)
    return torch.minimum(index, last).sort(-1).values.numpy()


def levels(log_p: Tensor) -> dict[str, NDArray[Any]]:
    """Steps below the largest of each row, two in 15 bits, and the size of a step."""
    below = log_p.amax(-1, keepdim=True) - log_p
    finite = below.isfinite()
    step = torch.where(finite, below, 0).amax(-1, keepdim=True) / (NEVER - 1)
    step = torch.nextafter(step.half(), torch.tensor(torch.inf, dtype=torch.half))
    level = torch.where(finite, (below / step.float()).round(), NEVER).long()
    level = torch.nn.functional.pad(level, (0, level.shape[-1] % 2))
    pairs = level[:, 0::2] * LEVELS + level[:, 1::2]
    return {"levels": pack(pairs.numpy(), 15), "step": step[..., 0].numpy()}


def from_levels(arrays: Arrays, k: int, rest: Tensor) -> Tensor:
    """log p of what `levels` wrote: with the mass of all others it sums to 1."""
    pairs = torch.from_numpy(unpack(arrays["levels"], 15, (k + 1) // 2))
    level = torch.stack((pairs // LEVELS, pairs % LEVELS), -1).flatten(1)[:, :k]
    below = level * torch.from_numpy(arrays["step"]).float()[:, None]
    log_p = torch.where(level == NEVER, -torch.inf, -below)
    mass = torch.log1p(-rest.exp().clamp(max=1 - 1e-7))
    return log_p + (mass - log_p.logsumexp(-1))[:, None]
