"""The logit losses once more, as loops over numbers: slow, float64, sharing nothing with limbeck.

Classes last; `mask` and `weight` of the items' shape or None. `held` is the student at which a
weight without gradient is taken.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from tests.losses.oracles import Array, _dot, _mean, hint

Row = Sequence[float]
logit_mse = hint  # with classes for channels


def jeffreys(s: Array, t: Array, temperature: float = 1.0, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        return _kl(p, q) + _kl(q, p)

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def jsd(s: Array, t: Array, mixture: float = 0.5, temperature: float = 1.0, **items: Any) -> float:
    """The share `mixture` is the source's; a side without a share adds nothing."""

    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        m = [mixture * a + (1 - mixture) * b for a, b in zip(p, q, strict=True)]
        sides = [(mixture, p), (1 - mixture, q)]
        return math.fsum(share * _kl(side, m) for share, side in sides if share > 0)

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def skew_kl(
    s: Array, t: Array, alpha: float = 0.1, temperature: float = 1.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        return _kl(p, [alpha * a + (1 - alpha) * b for a, b in zip(p, q, strict=True)])

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def skew_reverse_kl(
    s: Array, t: Array, alpha: float = 0.1, temperature: float = 1.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        return _kl(q, [(1 - alpha) * a + alpha * b for a, b in zip(p, q, strict=True)])

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def total_variation(s: Array, t: Array, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        return (
            math.fsum(abs(a - b) for a, b in zip(_softmax(t[i]), _softmax(s[i]), strict=True)) / 2
        )

    return _mean(item, s.shape[:-1], **items)


def akl(
    s: Array, t: Array, held: Array, mu: float = 0.5, temperature: float = 1.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        then = _softmax(held[i] / temperature)
        gaps, mass = {True: 0.0, False: 0.0}, 0.0
        for rank, c in enumerate(sorted(range(len(p)), key=lambda c: -p[c])):
            mass += p[c]
            gaps[rank == 0 or mass <= mu] += abs(p[c] - then[c])
        total = gaps[True] + gaps[False]
        if total == 0:
            return 0.0
        return gaps[True] / total * _kl(p, q) + gaps[False] / total * _kl(q, p)

    return temperature**2 * _mean(item, s.shape[:-1], **items)


def logit_l1(s: Array, t: Array, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        return math.fsum(abs(a - b) for a, b in zip(s[i], t[i], strict=True)) / s.shape[-1]

    return _mean(item, s.shape[:-1], **items)


def dkd(
    s: Array,
    t: Array,
    target: Array,
    alpha: float = 1.0,
    beta: float = 8.0,
    temperature: float = 4.0,
    **items: Any,
) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = _softmax(t[i] / temperature), _softmax(s[i] / temperature)
        y = int(target[i])
        pair = [[x[y], math.fsum(_others(x, y))] for x in (p, q)]
        rest = [_softmax(_others(x[i] / temperature, y)) for x in (t, s)]
        return temperature**2 * (alpha * _kl(*pair) + beta * _kl(*rest))

    return _mean(item, s.shape[:-1], **_known(target, items))


def nkd(
    s: Array, t: Array, target: Array, gamma: float = 1.5, temperature: float = 1.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        y = int(target[i])
        p, q = (_softmax(_others(x[i] / temperature, y)) for x in (t, s))
        rest = -math.fsum(a * math.log(b) for a, b in zip(p, q, strict=True))
        label = -_softmax(t[i])[y] * math.log(_softmax(s[i])[y])
        return label + gamma * temperature**2 * rest

    return _mean(item, s.shape[:-1], **_known(target, items))


def wsld(
    s: Array, t: Array, target: Array, held: Array, temperature: float = 2.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        y = int(target[i])
        mine, theirs = (-math.log(_softmax(x[i])[y]) for x in (held, t))
        kl = _kl(_softmax(t[i] / temperature), _softmax(s[i] / temperature))
        return temperature**2 * (1 - math.exp(-mine / theirs)) * kl

    return _mean(item, s.shape[:-1], **_known(target, items))


def ban_cwtm(s: Array, t: Array, target: Array, count: float | None = None, **items: Any) -> float:
    items = _known(target, items)
    sure = [max(_softmax(t[i])) for i in np.ndindex(s.shape[:-1]) if items["mask"][i]]

    def item(i: tuple[int, ...]) -> float:
        return -max(_softmax(t[i])) * math.log(_softmax(s[i])[int(target[i])])

    return _mean(item, s.shape[:-1], count=count or math.fsum(sure) or 1.0, **items)


def ps_kd(s: Array, t: Array, target: Array, alpha: float = 0.8, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        past = _softmax(t[i])
        soft = [(1 - alpha) * (c == target[i]) + alpha * past[c] for c in range(len(past))]
        return -math.fsum(a * math.log(b) for a, b in zip(soft, _softmax(s[i]), strict=True))

    return _mean(item, s.shape[:-1], **_known(target, items))


def tfkd_reg(
    s: Array, target: Array, correct: float = 0.99, temperature: float = 20.0, **items: Any
) -> float:
    def item(i: tuple[int, ...]) -> float:
        n = s.shape[-1]
        v = [correct if c == target[i] else (1 - correct) / (n - 1) for c in range(n)]
        return _kl(_softmax([x / temperature for x in v]), _softmax(s[i]))

    return _mean(item, s.shape[:-1], **_known(target, items))


def ttm(s: Array, t: Array, gamma: float = 0.1, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        powers = [a**gamma for a in _softmax(t[i])]
        return _kl([a / math.fsum(powers) for a in powers], _softmax(s[i]))

    return _mean(item, s.shape[:-1], **items)


def wttm(s: Array, t: Array, gamma: float = 0.1, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        powers = [a**gamma for a in _softmax(t[i])]
        z = math.fsum(powers)
        return z * _kl([a / z for a in powers], _softmax(s[i]))

    return _mean(item, s.shape[:-1], **items)


def lskd(s: Array, t: Array, temperature: float = 2.0, **items: Any) -> float:
    def item(i: tuple[int, ...]) -> float:
        p, q = (_softmax([z / temperature for z in _standard(x[i])]) for x in (t, s))
        return temperature**2 * _kl(p, q)

    return _mean(item, s.shape[:-1], **items)


def dist(
    s: Array,
    t: Array,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float = 1.0,
    mask: Array | None = None,
) -> float:
    p, q = (_rows(x, mask, temperature) for x in (t, s))
    classes = [_distance(a, b) for a, b in zip(p, q, strict=True)]
    samples = [_distance(a, b) for a, b in zip(_columns(p), _columns(q), strict=True)]
    return temperature**2 * (beta * _average(classes) + gamma * _average(samples))


def mlkd(
    s: Array,
    t: Array,
    temperatures: Sequence[float] = (4.0, 3.0, 5.0, 2.0, 6.0),
    mask: Array | None = None,
) -> float:
    total = 0.0
    for temperature in temperatures:
        p, q = (_rows(x, mask, temperature) for x in (t, s))
        n = max(len(p), 1)
        total += temperature**2 * math.fsum(_kl(a, b) for a, b in zip(p, q, strict=True)) / n
        total += _gram_distance(p, q) / n
        total += _gram_distance(_columns(p), _columns(q)) / s.shape[-1]
    return total


def _rows(x: Array, mask: Array | None, temperature: float) -> list[list[float]]:
    return [
        _softmax(x[i] / temperature) for i in np.ndindex(x.shape[:-1]) if mask is None or mask[i]
    ]


def _gram_distance(p: Sequence[Row], q: Sequence[Row]) -> float:
    return math.fsum(
        (_dot(p[i], p[j]) - _dot(q[i], q[j])) ** 2 for i in range(len(p)) for j in range(len(p))
    )


def _distance(a: Row, b: Row) -> float | None:
    """1 - corr; None where one of the two is constant."""
    if min(a) == max(a) or min(b) == max(b):
        return None
    u, v = ([x - math.fsum(row) / len(row) for x in row] for row in (a, b))
    return 1 - _dot(u, v) / math.sqrt(_dot(u, u) * _dot(v, v))


def _columns(rows: Sequence[Row]) -> list[Row]:
    return list(zip(*rows, strict=True))


def _average(values: Sequence[float | None]) -> float:
    known = [x for x in values if x is not None]
    return math.fsum(known) / len(known) if known else 0.0


def _standard(x: Row) -> list[float]:
    mean = math.fsum(x) / len(x)
    std = math.sqrt(math.fsum((a - mean) ** 2 for a in x) / (len(x) - 1))
    return [(float(a) - mean) / std for a in x]


def _others(x: Row, y: int) -> list[float]:
    return [float(x[c]) for c in range(len(x)) if c != y]


def _softmax(z: Row) -> list[float]:
    largest = max(z)
    powers = [math.exp(x - largest) for x in z]
    return [x / math.fsum(powers) for x in powers]


def _kl(p: Row, q: Row) -> float:
    return math.fsum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


def _known(target: Array, items: dict[str, Any]) -> dict[str, Any]:
    """The items' keywords, where those without a label are masked."""
    mask = items.get("mask")
    labelled = target != -100
    return items | {"mask": labelled if mask is None else labelled & mask}
