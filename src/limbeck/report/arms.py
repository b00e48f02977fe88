"""The arms of a comparison: their table, their gains and what they cost."""

from collections.abc import Sequence
from statistics import stdev

from limbeck.report import charts
from limbeck.report.charts import TEACHER, Point, Row, clipped
from limbeck.report.page import Cell, Figure, Section, Table, TableRow
from limbeck.report.records import Arm, Comparison, Gain
from limbeck.report.words import MISSING, count, interval, percent, points, seconds


def arms(record: Comparison, styles: dict[str, int]) -> Section:
    """The table of the arms, their accuracies and their paired differences."""
    rows = [arm_row(record, name) for name in record.arms]
    columns = [
        "Arm",
        "Top-1, mean ± sd",
        f"Points over {record.baseline}",
        "Time a run",
        "Steps",
        "Images",
    ]
    table = Table("Arms", columns, [*rows, *teacher_row(record)])
    return Section("Arms", tables=[table], figures=[*accuracies(record, styles), *gains(record)])


def arm_row(record: Comparison, name: str) -> TableRow:
    """One arm: accuracy, difference to the baseline, cost."""
    arm = record.arms[name]
    cells = [
        Cell(mean_sd(arm.mean, arm.spread), per_seed([run.top1 for run in arm.runs])),
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
    scores = [run.top1 for run in record.teacher.runs]
    known = [score for score in scores if score is not None]
    sd = stdev(known) if len(known) > 1 else None
    accuracy = Cell(mean_sd(record.teacher.mean, sd), per_seed(scores))
    return [TableRow("teacher", [accuracy, *[Cell(MISSING)] * 4])]


def mean_sd(mean: float | None, sd: float | None) -> str:
    """`91.24 ± 0.31 %`."""
    if mean is None:
        return MISSING
    return percent(mean) if sd is None else f"{100 * mean:.2f} ± {100 * sd:.2f} %"


def per_seed(values: Sequence[float | None]) -> str:
    """Every seed in the order of the seeds."""
    shown = [MISSING if value is None else f"{100 * value:.2f}" for value in values]
    return " · ".join(shown) if len(shown) > 1 else ""


def difference(record: Comparison, name: str) -> Cell:
    """The paired difference to the baseline, its interval below."""
    if name == record.baseline:
        return Cell("baseline")
    found = [g for g in record.gains if (g.arm, g.against) == (name, record.baseline)]
    if not found or found[0].mean is None:
        return Cell(MISSING)
    gain = found[0]
    return Cell(points(gain.mean), "" if gain.low is None else interval(gain.low, gain.high))


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
    rows = [
        Row(name, 100 * arm.mean, percent(arm.mean), styles[name], marks=measured(arm))
        for name, arm in record.arms.items()
        if arm.mean is not None
    ]
    teacher = record.teacher
    if teacher is not None and teacher.mean is not None:
        marks = tuple(100 * run.top1 for run in teacher.runs if run.top1 is not None)
        rows.append(Row("teacher", 100 * teacher.mean, percent(teacher.mean), TEACHER, marks=marks))
    picture = charts.dots(rows, "top-1, %") if rows else None
    caption = "Mark: mean. Strokes: seeds."
    return [] if picture is None else [Figure("Accuracy", picture, caption)]


def measured(arm: Arm) -> tuple[float, ...]:
    """The accuracy of each seed in percent."""
    return tuple(100 * run.top1 for run in arm.runs if run.top1 is not None)


def gains(record: Comparison) -> list[Figure]:
    """Every paired difference with its interval."""
    rows = [gain_row(gain, record) for gain in record.gains if gain.mean is not None]
    if not rows:
        return []
    caption = "Paired by seed. Bar: 95 % interval of the mean. Strokes: seeds."
    picture = charts.dots([row for row in rows if row], "points", zero=True)
    return [Figure("Paired differences", picture, caption)]


def gain_row(gain: Gain, record: Comparison) -> Row:
    """A difference in points."""
    low, high = (None if end is None else 100 * end for end in (gain.low, gain.high))
    name = gain.arm if gain.against == record.baseline else f"{gain.arm} − {gain.against}"
    style = 0 if (gain.arm, gain.against) == (record.subject, record.baseline) else 1
    marks = tuple(100 * value for value in gain.per_seed if value is not None)
    return Row(name, 100 * (gain.mean or 0.0), points(gain.mean), style, low, high, marks)


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
    """Seconds of every arm, and accuracy against them."""
    known = [(name, arm) for name, arm in record.arms.items() if arm.seconds is not None]
    rows = [
        Row(name, arm.seconds or 0.0, seconds(arm.seconds), styles[name]) for name, arm in known
    ]
    points = [
        Point(
            f"{clipped(name)} {percent(arm.mean, 1)}",
            arm.seconds or 0.0,
            100 * arm.mean,
            styles[name],
        )
        for name, arm in known
        if arm.mean is not None
    ]
    drawn = []
    if rows:
        drawn.append(Figure("Time of a run", charts.bars(rows, "seconds, mean over seeds")))
    if points:
        picture = charts.scatter(points, "seconds of a run", "top-1, %")
        drawn.append(Figure("Accuracy against time", picture))
    return Section("Cost", figures=drawn, needs="the arms have no times")
