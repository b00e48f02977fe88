"""The arms of a comparison: their table, their gains and what they cost."""

from collections.abc import Sequence
from statistics import stdev

from limbeck.report import charts
from limbeck.report.charts import TEACHER, Point, Row, clipped
from limbeck.report.page import Cell, Figure, Section, Table, TableRow
from limbeck.report.records import Arm, Comparison, Gain, Teacher
from limbeck.report.words import MISSING, count, gain, interval, score, seconds
from limbeck.tasks import Measure


def arms(record: Comparison, styles: dict[str, int]) -> Section:
    """The table of the arms, their accuracies and their paired differences."""
    rows = [arm_row(record, name) for name in record.arms]
    measure = record.measure
    over = "Points over" if measure.percent else f"{measure.label} better than"
    columns = [
        "Arm",
        f"{measure.title}, mean ± sd",
        f"{over} {record.baseline}",
        "Time a run",
        "Steps",
        "Images",
    ]
    table = Table("Arms", columns, [*rows, *teacher_row(record)])
    return Section("Arms", tables=[table], figures=[*accuracies(record, styles), *gains(record)])


def arm_row(record: Comparison, name: str) -> TableRow:
    """One arm: score, difference to the baseline, cost."""
    arm, measure = record.arms[name], record.measure
    scores = [run.of(measure) for run in arm.runs]
    cells = [
        Cell(mean_sd(measure, arm.mean, arm.spread), per_seed(measure, scores)),
        difference(record, name),
        Cell(seconds(arm.seconds)),
        Cell(shared([run.steps for run in arm.runs])),
        Cell(shared([run.images for run in arm.runs])),
    ]
    return TableRow(name, cells, strong=name == record.subject)


def teacher_row(record: Comparison) -> list[TableRow]:
    """The teacher as a last row; it is no arm and has no budget here."""
    if record.teacher is None:
        return []
    measure = record.measure
    scores = [run.of(measure) for run in record.teacher.runs]
    known = [score for score in scores if score is not None]
    sd = stdev(known) if len(known) > 1 else None
    own = Cell(mean_sd(measure, record.teacher.mean, sd), per_seed(measure, scores))
    return [TableRow("teacher", [own, *[Cell(MISSING)] * 4])]


def mean_sd(measure: Measure, mean: float | None, sd: float | None) -> str:
    """`91.24 ± 0.31 %`."""
    if mean is None or sd is None:
        return score(measure, mean)
    return f"{score(measure, mean).removesuffix(' %')} ± {score(measure, sd)}"


def per_seed(measure: Measure, values: Sequence[float | None]) -> str:
    """Every seed in the order of the seeds."""
    shown = [score(measure, value).removesuffix(" %") for value in values]
    return " · ".join(shown) if len(shown) > 1 else ""


def difference(record: Comparison, name: str) -> Cell:
    """The paired difference to the baseline, its interval below."""
    if name == record.baseline:
        return Cell("baseline")
    found = [g for g in record.gains if (g.arm, g.against) == (name, record.baseline)]
    if not found or found[0].mean is None:
        return Cell(MISSING)
    each, measure = found[0], record.measure
    ends = "" if each.low is None else interval(measure, each.low, each.high)
    return Cell(gain(measure, each.mean), ends)


def shared(values: Sequence[float | None]) -> str:
    """The number that all seeds share, or their range.

    >>> shared([620, 620]), shared([620, 640])
    ('620', '620 to 640')
    """
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    low, high = min(known), max(known)
    return count(low) if low == high else f"{count(low)} to {count(high)}"


def accuracies(record: Comparison, styles: dict[str, int]) -> list[Figure]:
    """Mean and seeds of every arm, the teacher last."""
    measure, teacher = record.measure, record.teacher
    models = [(name, arm, styles[name]) for name, arm in record.arms.items()]
    rows = [
        Row(
            name,
            measure.factor * model.mean,
            score(measure, model.mean),
            style,
            marks=measured(measure, model),
        )
        for name, model, style in [*models, *([("teacher", teacher, TEACHER)] if teacher else [])]
        if model.mean is not None
    ]
    picture = charts.dots(rows, measure.axis) if rows else None
    caption = "Mark: mean. Strokes: seeds."
    return [] if picture is None else [Figure(measure.heading, picture, caption)]


def measured(measure: Measure, model: Arm | Teacher) -> tuple[float, ...]:
    """The score of each seed, as it is shown."""
    scores = (run.of(measure) for run in model.runs)
    return tuple(measure.factor * value for value in scores if value is not None)


def gains(record: Comparison) -> list[Figure]:
    """Every paired difference with its interval."""
    rows = [gain_row(each, record) for each in record.gains if each.mean is not None]
    if not rows:
        return []
    caption = "Paired by seed. Bar: 95 % interval of the mean. Strokes: seeds."
    unit = record.measure.unit if record.measure.higher else f"{record.measure.unit}, + is better"
    picture = charts.dots([row for row in rows if row], unit, zero=True)
    return [Figure("Paired differences", picture, caption)]


def gain_row(each: Gain, record: Comparison) -> Row:
    """A difference with its interval."""
    measure, factor = record.measure, record.measure.factor
    low, high = (None if end is None else factor * end for end in (each.low, each.high))
    name = each.arm if each.against == record.baseline else f"{each.arm} − {each.against}"
    style = 0 if (each.arm, each.against) == (record.subject, record.baseline) else 1
    marks = tuple(factor * value for value in each.per_seed if value is not None)
    mean = factor * (each.mean or 0.0)
    return Row(name, mean, gain(measure, each.mean), style, low, high, marks)


def budget(record: Comparison) -> str:
    """Whether every run had the same number of steps and images."""
    runs = [run for arm in record.arms.values() for run in arm.runs]
    steps, images = {run.steps for run in runs}, {run.images for run in runs}
    if None in steps | images:
        return "Steps and images were not recorded for every run."
    if len(steps) == len(images) == 1:
        return f"Every run took {count(steps.pop())} steps over {count(images.pop())} images."
    return "The runs differ in steps or images: the budgets are not equal."


def cost(record: Comparison, styles: dict[str, int]) -> Section:
    """Seconds of every arm, and the score against them."""
    measure = record.measure
    known = [(name, arm) for name, arm in record.arms.items() if arm.seconds is not None]
    rows = [
        Row(name, arm.seconds or 0.0, seconds(arm.seconds), styles[name]) for name, arm in known
    ]
    points = [
        Point(
            f"{clipped(name)} {score(measure, arm.mean, 1)}",
            arm.seconds or 0.0,
            measure.factor * arm.mean,
            styles[name],
        )
        for name, arm in known
        if arm.mean is not None
    ]
    drawn = []
    if rows:
        drawn.append(Figure("Time of a run", charts.bars(rows, "seconds, mean over seeds")))
    if points:
        picture = charts.scatter(points, "seconds of a run", measure.axis)
        drawn.append(Figure(f"{measure.heading} against time", picture))
    return Section("Cost", figures=drawn, needs="the arms have no times")
