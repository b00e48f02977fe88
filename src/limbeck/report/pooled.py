"""Several seeds of one model, taken together."""

from collections.abc import Mapping, Sequence
from statistics import fmean

from limbeck.report.records import Bin, Scores
from limbeck.tasks import CLASSIFICATION, Measure

TOP1 = CLASSIFICATION.each


def alike(scores: Sequence[Scores]) -> list[Scores]:
    """Those with the classes of the first."""
    return [each for each in scores if each.classes == scores[0].classes]


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of what is known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def reliability(scores: Sequence[Scores]) -> list[Bin]:
    """Bins of all seeds: counts add up, means are weighted by the counts."""
    merged: dict[tuple[float, float], list[Bin]] = {}
    for bin in (bin for each in scores for bin in each.reliability):
        merged.setdefault((bin.low, bin.high), []).append(bin)
    return [together(bins) for _, bins in sorted(merged.items())]


def together(bins: Sequence[Bin]) -> Bin:
    """One bin for several over the same range."""
    known = [
        (bin.count, bin.confidence, bin.accuracy)
        for bin in bins
        if bin.count and bin.confidence is not None and bin.accuracy is not None
    ]
    count = sum(number for number, _, _ in known)
    low, high = bins[0].low, bins[0].high
    if not count:
        return Bin(low=low, high=high)
    confidence = sum(number * value for number, value, _ in known) / count
    accuracy = sum(number * value for number, _, value in known) / count
    return Bin(low=low, high=high, count=count, confidence=confidence, accuracy=accuracy)


def confusion(scores: Sequence[Scores]) -> list[list[int]]:
    """The sum of the confusion matrices, rows the truth and columns the prediction."""
    matrices = [each.confusion for each in alike(scores) if each.confusion]
    return [
        [sum(cells) for cells in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)
    ]


def classes(scores: Sequence[Scores], measure: Measure = TOP1) -> dict[str, float]:
    """The mean score of each class."""
    names = {name: None for each in scores for name in each.per_class}
    means = {name: mean([of_class(each, name, measure) for each in scores]) for name in names}
    return {name: value for name, value in means.items() if value is not None}


def class_gains(
    ours: Mapping[int, Scores], theirs: Mapping[int, Scores], measure: Measure = TOP1
) -> dict[str, list[float]]:
    """For each class how much better `ours` are than `theirs`, a number for each shared seed."""
    gains: dict[str, list[float]] = {}
    for seed in (seed for seed in ours if seed in theirs):
        for name in ours[seed].per_class:
            a, b = (of_class(each[seed], name, measure) for each in (ours, theirs))
            if a is not None and b is not None:
                gains.setdefault(name, []).append(measure.sign * (a - b))
    return gains


def of_class(scores: Scores, name: str, measure: Measure) -> float | None:
    """The score of one class, if it was measured."""
    return scores.per_class[name].of(measure) if name in scores.per_class else None


def confused(matrix: Sequence[Sequence[int]], most: int) -> list[tuple[int, int, int, float]]:
    """The `most` frequent mistakes as (truth, prediction, count, share of the truth).

    >>> confused([[8, 2], [1, 9]], most=1)
    [(0, 1, 2, 0.2)]
    """
    pairs = [
        (truth, guess, number, number / sum(row))
        for truth, row in enumerate(matrix)
        for guess, number in enumerate(row)
        if truth != guess and number
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:most]
