"""The JSON that runs and comparisons leave behind, as types; unknown keys are passed over."""

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
    """`evaluation.json`: a student on one split, and its teacher beside it."""

    teacher: Scores | None = None
    retention: float | None = None
    agreement: float | None = None
    fidelity_kl: float | None = None
    fidelity_mae: float | None = None

    @property
    def task(self) -> Task:
        """What was asked."""
        return measured(self.model_fields_set)


class ArmRun(Measured):
    """One seed of one arm."""

    seed: int
    folder: str
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
