"""The report of a single run: what the student keeps of its teacher."""

from collections.abc import Sequence

from limbeck.report import figures, pooled
from limbeck.report.charts import STYLES, TEACHER
from limbeck.report.collect import Run
from limbeck.report.figures import Model
from limbeck.report.history import History
from limbeck.report.of_chain import stages
from limbeck.report.page import Cell, Fact, Page, Section, Table, TableRow, flat
from limbeck.report.records import Evaluation, Scores
from limbeck.report.words import count, decimal, percent, score, seconds, short, times
from limbeck.tasks import CLASSIFICATION, Measure, Task

ALONE = (
    "One run cannot tell what the teacher adds: `limbeck compare` measures the gain over the same "
    "student trained without one."
)
APART = (
    "One run cannot tell what students learn from one another: `limbeck compare` measures the gain "
    "over the same students, each trained by labels alone."
)
BESIDE = (
    "One run cannot tell what students learn from a teacher or from one another: `limbeck compare` "
    "measures the gain of each by itself."
)


def run_page(run: Run) -> Page:
    """What the files of a run tell."""
    evaluation = run.evaluation
    student = [] if evaluation is None else [evaluation]
    teacher = [] if evaluation is None or evaluation.teacher is None else [evaluation.teacher]
    histories = {} if run.history is None else curves(run.history)
    both, task = models(evaluation), asked(run)
    sections = [
        Section("Measures", tables=measures(evaluation), needs=figures.EVALUATE),
        stages(run.chain, task.headline),
        figures.curves(histories, {name: i % STYLES for i, name in enumerate(histories)}, ""),
        figures.size_and_speed(both, task.headline),
        figures.calibration(both, task),
        classes(student, teacher, task.each),
        figures.confusions(both, task),
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


def curves(history: History) -> dict[str, History]:
    """The curves of the student, or of each of several."""
    return {name: history.of(name) for name in history.students} or {"student": history}


def asked(run: Run) -> Task:
    """What was asked."""
    return CLASSIFICATION if run.evaluation is None else run.evaluation.task


def headline(run: Run) -> str:
    """The score of the student, and how much of its teacher's that is."""
    evaluation, measure = run.evaluation, asked(run).headline
    if evaluation is None or evaluation.of(measure) is None:
        return "Not evaluated yet"
    kept = evaluation.retention
    keeps = "" if kept is None else f", {measure.kept(kept, 1)} its teacher’s {measure.word}"
    return f"{measure.told(score(measure, evaluation.of(measure)))}{keeps}"


def sentences(run: Run) -> list[str]:
    """What was measured, how long it took, and what a single run cannot tell."""
    evaluation, said = run.evaluation, []
    if evaluation is None:
        said.append("`limbeck evaluate` measures the student and its teacher.")
    elif evaluation.split:
        said.append(f"Measured on {count(evaluation.examples)} images ({evaluation.split}).")
    if evaluation is not None and evaluation.student is not None:
        said.append(
            f"Of the students {', '.join(evaluation.students)} this is {evaluation.student}."
        )
    if run.history is not None and run.history.seconds is not None:
        said.append(f"Trained in {seconds(run.history.seconds)}.")
    if evaluation is None or not evaluation.students:
        return [*said, ALONE]
    return [*said, APART if evaluation.teacher is None else BESIDE]


def facts(evaluation: Evaluation) -> list[Fact]:
    """Student, teacher, and how close they are."""
    teacher, measure = evaluation.teacher, evaluation.task.headline
    if evaluation.students:
        everyone: dict[str, Scores] = {**evaluation.everyone()}
        everyone |= {} if teacher is None else {"teacher": teacher}
        return [
            Fact(name, score(measure, each.of(measure)), measure.label)
            for name, each in everyone.items()
        ]
    found = [Fact("Student", score(measure, evaluation.of(measure)), measure.label)]
    if teacher is None:
        return found
    ratio = "student over teacher" if measure.higher else "teacher over student"
    return [
        *found,
        Fact("Teacher", score(measure, teacher.of(measure)), measure.label),
        Fact("Retention", percent(evaluation.retention, 1), ratio),
        *likeness(evaluation),
    ]


def likeness(evaluation: Evaluation) -> list[Fact]:
    """How alike student and teacher answer."""
    if evaluation.fidelity_mae is not None:
        apart = f"{evaluation.fidelity_mae:.4g}"
        return [Fact("Fidelity", apart, "mean difference to the teacher")]
    same = "same first answer" if evaluation.task.exclusive else "same decisions"
    return [
        Fact("Agreement", percent(evaluation.agreement, 1), same),
        Fact("Fidelity", decimal(evaluation.fidelity_kl), "KL to the teacher, nats"),
    ]


def models(evaluation: Evaluation | None) -> list[Model]:
    """Student and teacher, as far as they were measured."""
    if evaluation is None:
        return []
    measure, teacher = evaluation.task.headline, evaluation.teacher
    students = [
        Model(name, i % STYLES, each.of(measure), each, [each])
        for i, (name, each) in enumerate(evaluation.everyone().items())
    ]
    if teacher is None:
        return students
    return [*students, Model("teacher", TEACHER, teacher.of(measure), teacher, [teacher])]


def classes(student: Sequence[Scores], teacher: Sequence[Scores], each: Measure) -> Section:
    """The score of each class, and how far that is from the teacher's."""
    gains = pooled.class_gains(dict(enumerate(student)), dict(enumerate(teacher)), each)
    drawn = [
        *figures.class_scores("student", student, teacher, each),
        *figures.class_differences("student minus teacher", gains, each),
    ]
    return Section("Classes", figures=drawn, needs=figures.EVALUATE)


def measures(evaluation: Evaluation | None) -> list[Table]:
    """Every number of the evaluation, the teacher's beside it."""
    if evaluation is None:
        return []
    task, teacher = evaluation.task, evaluation.teacher
    ours = told(evaluation, task)
    if teacher is None or evaluation.students:
        everyone: dict[str, Scores] = {**evaluation.everyone()}
        everyone |= {} if teacher is None else {"teacher": teacher}
        columns = [told(each, task) for each in everyone.values()]
        rows = [TableRow(name, [Cell(column[name]) for column in columns]) for name in ours]
        if len(everyone) == 1:
            return [Table("Student", ["Measure", "Student"], rows)]
        return [Table("Students", ["Measure", *everyone], rows)]
    theirs, ratios = told(teacher, task), told_ratios(evaluation, teacher)
    rows = [
        TableRow(name, [Cell(text), Cell(theirs[name]), Cell(ratios.get(name, ""))])
        for name, text in ours.items()
    ]
    columns = ["Measure", "Student", "Teacher", "Teacher over student"]
    return [Table("Student and teacher", columns, rows)]


def told(scores: Scores, task: Task) -> dict[str, str]:
    """The measures of one model by name."""
    return {
        **{each.title: score(each, scores.of(each)) for each in task.measures},
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
