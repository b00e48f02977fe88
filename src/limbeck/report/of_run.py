"""The report of a single run: what the student keeps of its teacher."""

from collections.abc import Sequence

from limbeck.report import figures, pooled
from limbeck.report.charts import TEACHER
from limbeck.report.collect import Run
from limbeck.report.figures import Model
from limbeck.report.page import Cell, Fact, Page, Section, Table, TableRow, flat
from limbeck.report.records import Evaluation, Scores
from limbeck.report.words import count, decimal, percent, seconds, short, times

ALONE = (
    "One run cannot tell what the teacher adds: `limbeck compare` measures the gain over the same "
    "student trained without one."
)


def run_page(run: Run) -> Page:
    """What the files of a run tell."""
    evaluation = run.evaluation
    student = [] if evaluation is None else [evaluation]
    teacher = [] if evaluation is None or evaluation.teacher is None else [evaluation.teacher]
    histories = {} if run.history is None else {"student": run.history}
    both = models(evaluation)
    sections = [
        Section("Measures", tables=measures(evaluation), needs=figures.EVALUATE),
        figures.curves(histories, {"student": 0}, ""),
        figures.size_and_speed(both),
        figures.calibration(both),
        classes(student, teacher),
        figures.confusions(both),
    ]
    return Page(
        title=run.name,
        kicker=f"Run {run.name}",
        sign="",
        headline=headline(run),
        sentences=sentences(run),
        facts=[] if evaluation is None else facts(evaluation),
        sections=sections,
        recipe=run.recipe,
        environment=flat(run.environment),
        notes=[f"{name} {problem}" for name, problem in run.problems.items()],
    )


def headline(run: Run) -> str:
    """The accuracy of the student, and how much of its teacher's that is."""
    evaluation = run.evaluation
    if evaluation is None or evaluation.top1 is None:
        return "Not evaluated yet"
    kept = evaluation.retention
    keeps = "" if kept is None else f", {percent(kept, 1)} of its teacher’s accuracy"
    return f"{percent(evaluation.top1)} right{keeps}"


def sentences(run: Run) -> list[str]:
    """What was measured, how long it took, and what a single run cannot tell."""
    evaluation, said = run.evaluation, []
    if evaluation is None:
        said.append("`limbeck evaluate` measures the student and its teacher.")
    elif evaluation.split:
        said.append(f"Measured on {count(evaluation.examples)} images ({evaluation.split}).")
    if run.history is not None and run.history.seconds is not None:
        said.append(f"Trained in {seconds(run.history.seconds)}.")
    return [*said, ALONE]


def facts(evaluation: Evaluation) -> list[Fact]:
    """Student, teacher, and how close they are."""
    teacher = evaluation.teacher
    found = [Fact("Student", percent(evaluation.top1), "top-1")]
    if teacher is None:
        return found
    return [
        *found,
        Fact("Teacher", percent(teacher.top1), "top-1"),
        Fact("Retention", percent(evaluation.retention, 1), "student over teacher"),
        Fact("Agreement", percent(evaluation.agreement, 1), "same first answer"),
        Fact("Fidelity", decimal(evaluation.fidelity_kl), "KL to the teacher, nats"),
    ]


def models(evaluation: Evaluation | None) -> list[Model]:
    """Student and teacher, as far as they were measured."""
    if evaluation is None:
        return []
    student = Model("student", 0, evaluation.top1, evaluation, [evaluation])
    teacher = evaluation.teacher
    if teacher is None:
        return [student]
    return [student, Model("teacher", TEACHER, teacher.top1, teacher, [teacher])]


def classes(student: Sequence[Scores], teacher: Sequence[Scores]) -> Section:
    """The accuracy of each class, and how far that is from the teacher's."""
    gains = pooled.class_gains(dict(enumerate(student)), dict(enumerate(teacher)))
    drawn = [
        *figures.class_accuracy("student", student, teacher),
        *figures.class_differences("student minus teacher", gains),
    ]
    return Section("Classes", figures=drawn, needs=figures.EVALUATE)


def measures(evaluation: Evaluation | None) -> list[Table]:
    """Every number of the evaluation, the teacher's beside it."""
    if evaluation is None:
        return []
    ours, teacher = told(evaluation), evaluation.teacher
    if teacher is None:
        rows = [TableRow(name, [Cell(text)]) for name, text in ours.items()]
        return [Table("Student", ["Measure", "Student"], rows)]
    theirs, ratios = told(teacher), told_ratios(evaluation, teacher)
    rows = [
        TableRow(name, [Cell(text), Cell(theirs[name]), Cell(ratios.get(name, ""))])
        for name, text in ours.items()
    ]
    columns = ["Measure", "Student", "Teacher", "Teacher over student"]
    return [Table("Student and teacher", columns, rows)]


def told(scores: Scores) -> dict[str, str]:
    """The measures of one model by name."""
    return {
        "Top-1": percent(scores.top1),
        "Top-5": percent(scores.top5),
        "Negative log-likelihood, nats": decimal(scores.nll),
        "Expected calibration error": decimal(scores.ece),
        "Parameters": short(scores.parameters),
        "FLOPs of one image": short(scores.flops),
        "Size": short(scores.bytes, "B"),
        "Latency of one image, ms": decimal(scores.latency_ms),
        "Images a second": short(scores.throughput),
    }


def told_ratios(student: Scores, teacher: Scores) -> dict[str, str]:
    """What the teacher costs, in students."""
    return {
        "Parameters": times(teacher.parameters, student.parameters),
        "FLOPs of one image": times(teacher.flops, student.flops),
        "Size": times(teacher.bytes, student.bytes),
        "Latency of one image, ms": times(teacher.latency_ms, student.latency_ms),
    }
