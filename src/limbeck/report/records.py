"""The JSON that runs and comparisons leave behind, as types; unknown keys are passed over."""

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from limbeck.tasks import Measure, Task, measured


class Record(BaseModel):
    """A part of a JSON document."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Measured(Record):
    """The scores of any task, as far as they were measured."""

    top1: float | None = None
    top5: float | None = None
    nll: float | None = None
    ece: float | None = None
    map: float | None = None
    micro_f1: float | None = None
    macro_f1: float | None = None
    ap: float | None = None
    f1: float | None = None
    mae: float | None = None
    rmse: float | None = None
    r2: float | None = None

    def of(self, measure: Measure) -> float | None:
        """The score by a measure."""
        return getattr(self, measure.key)


class ChainStage(Measured):
    """A stage of a chain that is finished."""

    name: str
    teachers: list[str] = []
    model: str = ""
    parameters: float | None = None
    steps: float | None = None
    seconds: float | None = None


class Chain(Record):
    """The stages of a chain in the order of training, and of generations their mean answer."""

    stages: list[ChainStage]
    ensemble: ChainStage | None = None

    @model_validator(mode="before")
    @classmethod
    def named(cls, value: Any) -> Any:
        """The ensemble under a name, as the stages have one."""
        together = value.get("ensemble") if isinstance(value, dict) else None
        return {**value, "ensemble": {"name": "all together", **together}} if together else value


class Bin(Record):
    """Predictions whose confidence lies in `low..high`: their number and means."""

    low: float
    high: float
    count: int = 0
    confidence: float | None = None
    accuracy: float | None = None


class ClassScore(Measured):
    """The scores of one class."""

    count: int = 0


class Cost(Record):
    """What a model takes: parameters, operations of one image, bytes, milliseconds of one image."""

    parameters: float | None = None
    flops: float | None = None
    bytes: float | None = None
    latency_ms: float | None = None
    throughput: float | None = None


class Scores(Measured, Cost):
    """One model on one split."""

    split: str = ""
    examples: int | None = None
    classes: list[str] = []
    per_class: dict[str, ClassScore] = {}
    reliability: list[Bin] = []
    confusion: list[list[int]] = []

    @model_validator(mode="after")
    def square(self) -> "Scores":
        """Hold only a confusion matrix with a row and a column for each class."""
        sides = {len(self.confusion), *map(len, self.confusion)}
        if self.confusion and sides != {len(self.classes)}:
            raise ValueError(f"confusion must be {len(self.classes)} by {len(self.classes)}")
        return self


class Evaluation(Scores):
    """`evaluation.json`: a student on one split, and its teacher beside it.

    Of several students, `students` are all of them, of which the one named `student` is this, and
    `ensemble` is their mean.
    """

    student: str | None = None
    students: dict[str, "Evaluation"] = {}
    ensemble: "Evaluation | None" = None
    teacher: Scores | None = None
    retention: float | None = None
    agreement: float | None = None
    fidelity_kl: float | None = None
    fidelity_mae: float | None = None

    @property
    def task(self) -> Task:
        """What was asked."""
        return measured(self.model_fields_set)

    def everyone(self) -> "dict[str, Evaluation]":
        """The students by name, and their ensemble; one alone is `student`."""
        if self.ensemble is None:
            return {**self.students} or {"student": self}
        return {**self.students, "ensemble": self.ensemble}


class ArmRun(Measured):
    """One seed of one arm; `student` says whose of several it is."""

    seed: int
    folder: str
    student: str | None = None
    seconds: float | None = None
    steps: float | None = None
    images: float | None = None


class Arm(Record):
    """All seeds of one arm."""

    runs: list[ArmRun]
    mean: float | None = None
    std: float | None = None
    seconds: float | None = None

    @property
    def spread(self) -> float | None:
        """The standard deviation over the seeds, where there are several."""
        return self.std if len(self.runs) > 1 else None


class Gain(Record):
    """How much better `arm` is than `against`, by seed, with the 95 % interval of the mean."""

    arm: str
    against: str
    per_seed: list[float | None] = []
    mean: float | None = None
    low: float | None = None
    high: float | None = None


class Verdict(Record):
    """What the comparison says, as a kind and as a sentence."""

    kind: str
    text: str


class TeacherRun(Measured):
    """The teacher of one seed."""

    seed: int


class Teacher(Cost):
    """The teachers of all seeds."""

    runs: list[TeacherRun] = []
    mean: float | None = None


class Comparison(Record):
    """`compare.json`."""

    verdict: Verdict
    baseline: str
    subject: str
    arms: dict[str, Arm]
    recipe: str = ""
    seeds: list[int] = []
    gains: list[Gain] = []
    teacher: Teacher | None = None
    student: Cost | None = None
    metric: str = "top1"

    @property
    def task(self) -> Task:
        """What was asked."""
        return measured([self.metric])

    @property
    def who(self) -> str:
        """Who taught the subject: a teacher, the other students of a run, or both."""
        several = any(run.student is not None for run in self.arms[self.subject].runs)
        if not several or self.subject.startswith("distilled,"):
            return "the teacher"
        return "the company of its peers" if self.teacher is None else "a teacher beside its peers"

    @property
    def measure(self) -> Measure:
        """What the arms are compared by."""
        return self.task.headline

    @model_validator(mode="after")
    def named(self) -> "Comparison":
        """Hold the two arms that the verdict is about."""
        for arm in (self.baseline, self.subject):
            if arm not in self.arms:
                raise ValueError(f"arms must hold {arm!r}, got {', '.join(self.arms)}")
        return self
