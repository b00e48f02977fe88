"""The sections that a run and a comparison share."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from limbeck.report import charts, pooled
from limbeck.report.charts import Line, Point, Row, clipped
from limbeck.report.history import History
from limbeck.report.page import Cell, Figure, Section, Table, TableRow
from limbeck.report.records import Cost, Scores
from limbeck.report.words import count, decimal, gain, percent, score
from limbeck.tasks import Measure, Task

EVALUATE = "needs evaluation.json; run `limbeck evaluate`"
MOST_CLASSES, MOST_PAIRS, MOST_ROWS = 30, 12, 24


class Model(NamedTuple):
    """A student or a teacher: its place on paper, what it costs, and its seeds."""

    name: str
    style: int
    score: float | None
    cost: Cost | None
    scores: Sequence[Scores] = ()


def curves(histories: Mapping[str, History], styles: Mapping[str, int], lead: str) -> Section:
    """The score on each split, learning rate, and the loss terms of each arm."""
    figures = [*accuracy(histories, styles), *terms(histories), *rate(histories, styles)]
    return Section("Curves", lead, figures=figures, needs="needs metrics.jsonl")


def accuracy(histories: Mapping[str, History], styles: Mapping[str, int]) -> list[Figure]:
    """A chart for each split, a line for each arm that was looked at more than once."""
    splits = {split: each.measure for each in histories.values() for split in each.accuracy}
    found = []
    for split, measure in splits.items():
        drawn = [
            Line(arm, [(epoch, measure.factor * score) for epoch, score in curve], styles[arm])
            for arm, each in histories.items()
            if len(curve := each.accuracy.get(split, [])) > 1
        ]
        if drawn:
            picture = charts.lines(drawn, "epoch", measure.axis)
            found.append(Figure(f"{measure.heading} on {split}", picture))
    return found


def terms(histories: Mapping[str, History]) -> list[Figure]:
    """A chart for each arm, a line for each term; a term has one style in all of them."""
    names = list({name: None for each in histories.values() for name in each.terms})
    parts = [name for name in names if name != "total"]
    styles = {"total": 1} | {name: (i + (i > 0)) % charts.STYLES for i, name in enumerate(parts)}
    found = []
    for arm, each in histories.items():
        drawn = [Line(name, curve, styles[name]) for name, curve in each.terms.items() if curve]
        if drawn:
            only = f": {drawn[0].label}" if len(drawn) == 1 else " terms"
            title = f"Loss{only}" + (f", {arm}" if len(histories) > 1 else "")
            found.append(Figure(title, charts.lines(drawn, "step", "loss")))
    return found


def rate(histories: Mapping[str, History], styles: Mapping[str, int]) -> list[Figure]:
    """The learning rate, one line where all arms share it."""
    known = {arm: each.learning_rate for arm, each in histories.items() if each.learning_rate}
    if not known:
        return []
    first = next(iter(known.values()))
    if all(curve == first for curve in known.values()):
        return [
            Figure("Learning rate", charts.lines([Line("learning rate", first, 1)], "step", "rate"))
        ]
    drawn = [Line(arm, curve, styles[arm]) for arm, curve in known.items()]
    return [Figure("Learning rate", charts.lines(drawn, "step", "rate"))]


def size_and_speed(models: Sequence[Model], measure: Measure) -> Section:
    """The score against parameters and against latency."""
    sizes = [(model, model.cost.parameters) for model in models if model.cost is not None]
    times = [(model, model.cost.latency_ms) for model in models if model.cost is not None]
    drawn = [
        *score_against("size", "parameters", sizes, measure),
        *score_against("latency", "latency of one image, ms", times, measure),
    ]
    return Section("Size and speed", figures=drawn, needs=EVALUATE)


def score_against(
    what: str, axis: str, costs: Sequence[tuple[Model, float | None]], measure: Measure
) -> list[Figure]:
    """The models whose score and cost are known, as points."""
    drawn = [
        Point(
            f"{clipped(model.name)} {score(measure, model.score, 1)}",
            cost,
            measure.factor * model.score,
            model.style,
        )
        for model, cost in costs
        if model.score is not None and cost is not None
    ]
    if not drawn:
        return []
    picture = charts.scatter(drawn, axis, measure.axis)
    return [Figure(f"{measure.heading} against {what}", picture)]


def calibration(models: Sequence[Model], task: Task) -> Section:
    """A reliability diagram for each model, where one class is right."""
    figures = []
    for name, style, _, _, scores in models:
        bins = pooled.reliability(scores)
        if any(bin.count for bin in bins):
            error = decimal(pooled.mean([each.ece for each in scores]))
            title = f"{name}, ECE {error}"
            figures.append(Figure(title, charts.reliability(bins, style, name)))
    lead = (
        "On the diagonal a model is right as often as it is sure. Above it is too modest, below it "
        "too sure. The size of a dot is its share of the predictions."
    )
    needs = EVALUATE if task.exclusive else ""
    return Section("Reliability", lead, figures=figures, needs=needs, small=True)


def confusions(models: Sequence[Model], task: Task) -> Section:
    """A heatmap for each model, or its most frequent mistakes where there are many classes."""
    found = [(each, pooled.confusion(each.scores)) for each in models]
    known = [(each.name, each.scores[0].classes, matrix) for each, matrix in found if matrix]
    if any(len(classes) > MOST_CLASSES for _, classes, _ in known):
        tables = [mistakes(name, classes, matrix) for name, classes, matrix in known]
        return Section(
            "Confusion",
            "The most frequent mistakes; the share is of the images of the true class.",
            tables=tables,
            needs=EVALUATE,
        )
    lead = "Rows are the truth, columns the prediction; the stronger, the more of the row."
    figures = [
        Figure(name, charts.heatmap(matrix, classes, name)) for name, classes, matrix in known
    ]
    needs = EVALUATE if task.exclusive else ""
    return Section("Confusion", lead, figures=figures, needs=needs)


def mistakes(name: str, classes: Sequence[str], matrix: Sequence[Sequence[int]]) -> Table:
    """The most confused pairs of classes."""
    rows = [
        TableRow(
            classes[truth], [Cell(classes[guess]), Cell(count(number)), Cell(percent(share, 1))]
        )
        for truth, guess, number, share in pooled.confused(matrix, MOST_PAIRS)
    ]
    return Table(name, ["Truth", "Taken for", "Images", "Share"], rows)


def extremes(rows: Sequence[Row]) -> list[Row]:
    """The rows by falling value; of very many only both ends."""
    ordered = sorted(rows, key=lambda row: -row.value)
    half = MOST_ROWS // 2
    return ordered if len(ordered) <= MOST_ROWS else [*ordered[:half], *ordered[-half:]]


def class_scores(
    name: str, ours: Sequence[Scores], theirs: Sequence[Scores], measure: Measure
) -> list[Figure]:
    """The score of each class, the teacher's beside it."""
    teacher, factor = pooled.classes(theirs, measure), measure.factor
    rows = [
        Row(
            label,
            factor * value,
            score(measure, value, 1).removesuffix(" %"),
            0,
            teacher=None if label not in teacher else factor * teacher[label],
        )
        for label, value in pooled.classes(ours, measure).items()
    ]
    if not rows:
        return []
    beside = "Filled: student. Hollow: teacher. " if teacher else ""
    caption = beside + ends_only(len(rows))
    picture = charts.dots(extremes(rows), measure.axis)
    return [Figure(f"{measure.heading} by class, {name}", picture, caption)]


def class_differences(
    title: str, gains: Mapping[str, Sequence[float]], measure: Measure
) -> list[Figure]:
    """The difference of each class, the largest first; `gains` has a number for each seed."""
    rows = []
    for label, values in gains.items():
        marks = tuple(measure.factor * value for value in values) if len(values) > 1 else ()
        mean = fmean(values)
        rows.append(Row(label, measure.factor * mean, gain(measure, mean), 0, marks=marks))
    if not rows:
        return []
    seeds = "Dot: mean. Strokes: seeds. " if any(row.marks for row in rows) else ""
    picture = charts.dots(extremes(rows), measure.unit, zero=True)
    return [Figure(title, picture, seeds + ends_only(len(rows)))]


def ends_only(classes: int) -> str:
    """The remark that some classes are not shown."""
    half = MOST_ROWS // 2
    return "" if classes <= MOST_ROWS else f"The {half} best and {half} worst of {classes} classes."
