"""The report of a comparison: its verdict, its arms, and what stands behind them."""

from collections.abc import Mapping, Sequence

from limbeck.report import figures, pooled
from limbeck.report.arms import arms, budget, cost
from limbeck.report.charts import STYLES, TEACHER
from limbeck.report.collect import Compared, Run
from limbeck.report.figures import Model
from limbeck.report.history import mean_history
from limbeck.report.page import Fact, Page, Section, flat
from limbeck.report.records import Comparison, Gain, Scores
from limbeck.report.words import decimal, gain, percent, score, sentence, short, times
from limbeck.tasks import Measure

VERDICTS = {
    "gain": (
        "▲",
        "The whole interval lies above zero: the student is better for having had {who}.",
    ),
    "no gain shown": (
        "◆",
        "The interval spans zero: these seeds do not show that {who} helps.",
    ),
    "loss": (
        "▼",
        "The whole interval lies below zero: the student is worse for having had {who}.",
    ),
}
UNKNOWN = "One seed has no interval: without more of them nothing is shown."


def comparison_page(found: Compared) -> Page:
    """What a comparison and the files of its runs tell."""
    record = found.record
    styles = arm_styles(record)
    ours = found.evaluations(record.subject)
    teachers = [each.teacher for each in ours.values() if each.teacher is not None]
    histories = {arm: mean_history(runs) for arm in record.arms if (runs := found.history(arm))}
    everyone = models(found, styles)
    subject, baseline = (everyone[arm] for arm in (record.subject, record.baseline))
    behind = [teacher_model(record, teachers)] if record.teacher or teachers else []
    sections = [
        arms(record, styles),
        figures.curves(histories, styles, "Means over the seeds."),
        figures.size_and_speed([*everyone.values(), *behind], record.measure),
        figures.calibration([subject, baseline, *behind], record.task),
        classes(record, ours, found.evaluations(record.baseline), teachers),
        figures.confusions([subject, *behind], record.task),
        cost(record, styles),
    ]
    name = record.recipe or found.name
    sign, _ = VERDICTS.get(record.verdict.kind, ("", ""))
    return Page(
        title=name,
        kicker=f"Comparison {name} · {len(record.arms)} arms · {seeds(record)}",
        sign=sign,
        headline=headline(record),
        sentences=sentences(record),
        facts=facts(record, list(ours.values())),
        sections=sections,
        recipe=found.recipe,
        environment=flat(found.environment),
        notes=notes([run for runs in found.runs.values() for run in runs.values()]),
    )


def arm_styles(record: Comparison) -> dict[str, int]:
    """The accent for the subject, the plainest line for the baseline."""
    others = [arm for arm in record.arms if arm not in (record.subject, record.baseline)]
    return {record.subject: 0, record.baseline: 1} | {
        arm: 2 + i % (STYLES - 2) for i, arm in enumerate(others)
    }


def seeds(record: Comparison) -> str:
    """How many seeds there are."""
    number = len(record.seeds) or len(record.arms[record.subject].runs)
    return "1 seed" if number == 1 else f"{number} seeds"


def main_gain(record: Comparison) -> Gain | None:
    """The gain that the verdict is about."""
    wanted = (record.subject, record.baseline)
    return next((gain for gain in record.gains if (gain.arm, gain.against) == wanted), None)


def headline(record: Comparison) -> str:
    """The verdict in as few words as it takes."""
    kind, gain = record.verdict.kind, main_gain(record)
    title = kind[:1].upper() + kind[1:]
    if gain is None or gain.mean is None or kind not in ("gain", "loss"):
        return title
    return f"{title}: {difference(record.measure, gain.mean)}"


def difference(measure: Measure, value: float) -> str:
    """A signed difference with its unit."""
    return f"{gain(measure, value)} {measure.unit}"


def sentences(record: Comparison) -> list[str]:
    """The verdict in full, what it means, who did best, and whether budgets were equal."""
    verdict, gain = record.verdict, main_gain(record)
    said = [sentence(verdict.text.removeprefix(f"{verdict.kind}:"))]
    if gain is not None and gain.low is None:
        said.append(UNKNOWN)
    elif verdict.kind in VERDICTS:
        said.append(VERDICTS[verdict.kind][1].format(who=record.who))
    return [*said, *best(record), budget(record)]


def best(record: Comparison) -> list[str]:
    """The arm with the best mean, if it is not the one that the verdict is about."""
    measure = record.measure
    means = {arm: each.mean for arm, each in record.arms.items() if each.mean is not None}
    own = means.get(record.subject)
    top = max(means, key=lambda arm: measure.sign * means[arm], default=record.subject)
    if own is None or measure.sign * (means[top] - own) <= 0:
        return []
    extreme = "highest" if measure.higher else "lowest"
    return [
        f"The {extreme} mean is that of {top}: {score(measure, means[top])}, "
        f"{difference(measure, means[top] - own)} from {record.subject}."
    ]


def facts(record: Comparison, ours: Sequence[Scores]) -> list[Fact]:
    """The subject, its teacher, and how much smaller and faster it is."""
    subject, teacher, student = record.arms[record.subject], record.teacher, record.student
    measure, sd = record.measure, subject.spread
    spread = "" if sd is None else f"± {score(measure, sd).removesuffix(' %')} over {seeds(record)}"
    found = [Fact(record.subject.capitalize(), score(measure, subject.mean), spread)]
    if teacher is not None and teacher.mean:
        kept = measure.retention(subject.mean, teacher.mean)
        note = f"the student keeps {percent(kept, 1)}"
        if kept and not measure.higher:
            note = f"the student’s is {measure.kept(kept)} that"
        found.append(Fact("Teacher", score(measure, teacher.mean), note))
    if student is None:
        return found
    size, speed = student.parameters, student.latency_ms
    if size is not None:
        note = against(teacher.parameters if teacher else None, size, "fewer", "more")
        found.append(Fact("Parameters", short(size), note))
    if speed is not None:
        note = against(teacher.latency_ms if teacher else None, speed, "faster", "slower")
        found.append(Fact("Latency", f"{speed:.3g} ms", note))
    error = pooled.mean([each.ece for each in ours])
    return found if error is None else [*found, Fact("Calibration error", decimal(error), "ECE")]


def against(teacher: float | None, student: float, less: str, more: str) -> str:
    """How the student stands to the teacher."""
    if not teacher or not student:
        return ""
    if teacher >= student:
        return f"{times(teacher, student)} {less} than the teacher"
    return f"{times(student, teacher)} {more} than the teacher"


def models(found: Compared, styles: dict[str, int]) -> dict[str, Model]:
    """Every arm as a student."""
    cost = found.record.student
    return {
        arm: Model(arm, styles[arm], each.mean, cost, list(found.evaluations(arm).values()))
        for arm, each in found.record.arms.items()
    }


def teacher_model(record: Comparison, teachers: Sequence[Scores]) -> Model:
    """The teachers of all seeds as one."""
    if record.teacher is None:
        mean = pooled.mean([each.of(record.measure) for each in teachers])
        return Model("teacher", TEACHER, mean, teachers[0], teachers)
    return Model("teacher", TEACHER, record.teacher.mean, record.teacher, teachers)


def classes(
    record: Comparison,
    ours: Mapping[int, Scores],
    plain: Mapping[int, Scores],
    teachers: Sequence[Scores],
) -> Section:
    """The gain of each class, and the score of each class beside the teacher's."""
    title, each = f"{record.subject} minus {record.baseline}", record.task.each
    drawn = [
        *figures.class_differences(title, pooled.class_gains(ours, plain, each), each),
        *figures.class_scores(record.subject, list(ours.values()), teachers, each),
    ]
    return Section("Classes", figures=drawn, needs=figures.EVALUATE)


def notes(runs: Sequence[Run]) -> list[str]:
    """A line for each kind of file that is missing or broken in some runs."""
    grouped: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for name, problem in run.problems.items():
            grouped.setdefault((name, problem), []).append(run.name)
    return [
        f"{name} {problem} in {len(where)} of {len(runs)} runs: {named(where)}"
        for (name, problem), where in grouped.items()
    ]


def named(folders: Sequence[str], most: int = 3) -> str:
    """The first few of `folders`.

    >>> named(["a", "b", "c", "d"])
    'a, b, c and others'
    """
    return ", ".join(folders[:most]) + (" and others" if len(folders) > most else "")
