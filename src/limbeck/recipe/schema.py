"""What a recipe may say."""

import inspect
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from limbeck.balance import Balance
from limbeck.data import Augment, Mix
from limbeck.errors import LimbeckError
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from limbeck.models import check_spec
from limbeck.objective import Match, Objective, Sum, check_options, truth
from limbeck.reader import is_output
from limbeck.recipe.names import function, projector
from limbeck.schedules import Cosine, Linear, Schedule
from limbeck.tasks import TASKS, Task
from limbeck.train.settings import Block, Fraction, NonNegative, Training


class Augmentation(Block):
    """How training images vary; teacher and student see the same variation."""

    crop: Annotated[int, Field(ge=0)] = Field(0, description="shift by up to so many pixels")
    padding: Literal["zero", "reflect"] = Field("zero", description="what a shift uncovers")
    flip: bool = Field(False, description="mirror half of them")
    resized_crop: tuple[Fraction, Fraction] | None = Field(
        None, description="random crop of this fraction of the area, resized"
    )
    randaugment: tuple[int, int] | None = Field(None, description="operations, magnitude")
    mixup: NonNegative = Field(0.0, description="alpha of the Beta distribution")
    cutmix: NonNegative = Field(0.0, description="alpha of the Beta distribution")

    def augment(self) -> Augment | None:
        made = Augment(
            crop=self.crop,
            flip=self.flip,
            resized_crop=self.resized_crop,
            randaugment=self.randaugment,
            padding=self.padding,
        )
        return None if made == Augment() else made

    def mix(self) -> Mix | None:
        return Mix(self.mixup, self.cutmix) if self.mixup or self.cutmix else None


class Data(Block):
    """Where images come from, and which of their labels are used."""

    train: str = Field(
        description="digits:train, fashion-mnist:train, cifar10:train, folder:PATH; csv:PATH where "
        "an image has several targets"
    )
    valid: str | None = Field(None, description="for choices; carved from train unless given")
    test: str | None = Field(None, description="for the last word; valid unless given")
    valid_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.1, description="of train, where valid is not given"
    )
    root: Path | None = Field(None, description="folder of named sets")
    image_size: PositiveInt | None = Field(None, description="height and width in pixels")
    labels: PositiveInt | None = Field(None, description="labels to keep; the rest is withheld")
    unlabelled: bool = Field(True, description="train on images without label too")
    augment: Augmentation = Field(Augmentation(), description="random variation")
    views: PositiveInt | None = Field(None, description="recycle so many variations of an image")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that decode files")
    skip_corrupt: bool = Field(False, description="leave out files that cannot be read")


class Model(Block):
    """A network and the weights that it starts from."""

    model: str = Field(description="torchvision:NAME, timm:NAME, or package.module:factory")
    pretrained: bool | str = Field(False, description="the library's weights; true or their name")
    checkpoint: Path | None = Field(None, description="safetensors, or torch with plain tensors")
    unsafe_pickle: bool = Field(False, description="run the code inside a pickled checkpoint")
    fit_head: bool = Field(False, description="replace the last layer to fit the classes")
    outputs: PositiveInt | None = Field(
        None, description="classes of the checkpoint, where they are not the data's"
    )
    options: dict[str, Any] = Field({}, description="further keywords of the model")
    mean: tuple[float, ...] | None = Field(None, description="per channel, of 0..1")
    std: tuple[float, ...] | None = Field(None, description="per channel, of 0..1")
    image_size: PositiveInt | None = Field(None, description="what this model sees, in pixels")

    @field_validator("model")
    @classmethod
    def exists(cls, value: str) -> str:
        check_spec(value)
        return value

    def preprocess(self, own: Preprocess | None, channels_last: bool) -> Preprocess:
        """The recipe's word, then the weights' own, then ImageNet's."""
        mean = self.mean or (own.mean if own else IMAGENET_MEAN)
        std = self.std or (own.std if own else IMAGENET_STD)
        return Preprocess(mean, std, self.image_size, channels_last)


class Teacher(Model):
    """A network that teaches."""

    class_map: dict[str, str | list[str]] | None = Field(
        None, description="student class -> teacher class or classes, where they differ"
    )
    classes: list[str] | None = Field(None, description="its classes in order, where they differ")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of its weights")
    channels_last: bool = Field(False, description="memory format")
    record: bool = Field(False, description="ask once for each image and view, and remember")
    fit: Training | None = Field(None, description="train it first, on the labelled images")


class Ramp(Block):
    """A number that moves with training progress."""

    schedule: Literal["linear", "cosine"] = Field(description="its shape")
    start: float = Field(description="value at the start")
    stop: float = Field(description="value from `until` on")
    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="fraction of the training")

    def made(self) -> Schedule:
        shape = Linear if self.schedule == "linear" else Cosine
        return shape(self.start, self.stop, self.until)


class Term(Block):
    """One match of the objective; keys that are not listed are keywords of the loss."""

    model_config = ConfigDict(extra="allow", frozen=True)

    loss: str = Field(description="truth, a name in limbeck.losses, or package.module:function")
    weight: float | Ramp = Field(1.0, description="a number, or a schedule")
    balance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="instead: start as this fraction of the terms without balance"
    )
    at: str | None = Field(None, description="the signal on both sides")
    student: str | None = Field(None, description="the student's signal")
    theirs: str | None = Field(None, description="the source's signal")
    source: Literal["teacher", "student", "data"] = Field("teacher", description="who teaches")
    project: str | None = Field(None, description="conv, linear, or package.module:factory")
    name: str | None = Field(None, description="of the part in the metrics")

    @model_validator(mode="after")
    def fits(self) -> "Term":
        if self.at is not None and (self.student is not None or self.theirs is not None):
            raise ValueError("at names both sides; leave out student and theirs")
        if self.loss == "truth" and self.project is not None:
            raise ValueError("truth takes logits as they are; leave out project")
        if self.balance is not None and self.weight != 1:
            raise ValueError("balance finds the weight; leave out weight")
        loss = truth if self.loss == "truth" else function(self.loss)
        check_options(loss, self.keywords())
        for name, value in self.keywords().items():
            check_number(name, value, inspect.signature(loss).parameters[name].default)
        if self.project is not None:
            projector(self.project)
        return self

    def keywords(self) -> dict[str, Any]:
        """The keywords of the loss."""
        return self.model_extra or {}

    def made(self, task: Task) -> Objective:
        """The weighted match."""
        if self.balance is not None:
            return Balance(self.balance) * self.match(task)
        weight = self.weight.made() if isinstance(self.weight, Ramp) else self.weight
        return weight * self.match(task)

    @property
    def of_output(self) -> bool:
        """Whether the student's side is what it returns, not a layer inside."""
        return is_output(self.student or self.at or "output")

    def suits(self, task: Task) -> None:
        """Raises LimbeckError where the loss is not one for the outputs of this task."""
        right = task.instead.get(self.loss)
        if right is not None and self.of_output:
            raise LimbeckError(f"{self.loss} is wrong for task: {task.name}; use {right}")
        if self.loss == "truth":
            check_options(task.loss, self.keywords())

    def match(self, task: Task) -> Objective:
        keywords = {key: ramp_or(value) for key, value in self.keywords().items()}
        student = self.student or self.at or "output"
        if self.loss == "truth":
            name = self.name or "truth"
            target = self.theirs or "target"
            return truth(student, target, loss=task.loss, name=name, **keywords)
        return Match(
            function(self.loss),
            student,
            self.theirs or self.at,
            source=self.source,
            project=projector(self.project) if self.project else None,
            name=self.name,
            **keywords,
        )


def ramp_or(value: Any) -> Any:
    """A loss keyword, which may be a schedule."""
    return Ramp.model_validate(value).made() if is_ramp(value) else value


def is_ramp(value: Any) -> bool:
    return isinstance(value, dict) and "schedule" in value


def check_number(name: str, value: Any, default: Any) -> None:
    """Raises LimbeckError where a loss wants a number and gets neither that nor a schedule."""
    if is_ramp(value):
        try:
            Ramp.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([name, *map(str, first["loc"])])
            raise LimbeckError(f"{where}: {first['msg'].lower()}, got {value}") from error
    elif type(default) in (int, float) and type(value) not in (int, float):
        raise LimbeckError(f"{name} must be a number or a schedule, got {value!r}")


class Comparison(Block):
    """What `limbeck compare` runs beside the recipe."""

    seeds: PositiveInt = Field(3, description="seeds of each arm")
    arms: dict[str, dict[str, Any]] = Field({}, description="name -> overrides of this recipe")


class Recipe(Block):
    """A distillation, whole."""

    version: Literal[1] = Field(1, description="of this format")
    task: Literal["classification", "multilabel", "regression"] = Field(
        "classification", description="one class an image, several, or numbers"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of every random choice")
    data: Data
    student: Model
    teacher: Teacher | None = None
    objective: list[Term] = Field(min_length=1, description="the terms of the loss")
    train: Training = Field(Training(), description="how the student is trained")
    compare: Comparison = Field(Comparison(), description="how the gain is measured")

    @model_validator(mode="after")
    def consistent(self) -> "Recipe":
        taught = [term for term in self.objective if term.loss != "truth"]
        if self.teacher is None and any(term.source == "teacher" for term in taught):
            raise ValueError("the objective asks a teacher, but the recipe has none")
        if self.teacher is not None and self.teacher.record and self.data.views is None:
            raise ValueError("teacher.record needs data.views, the number of recycled variations")
        if all(term.balance is not None for term in self.objective):
            raise ValueError("every term has a balance and none a weight to be balanced with")
        return self

    @model_validator(mode="after")
    def of_one_task(self) -> "Recipe":
        for term in self.objective:
            term.suits(self.asked)
        mapped = (self.teacher.class_map if self.teacher else None) or {}
        lists = [theirs for theirs in mapped.values() if not isinstance(theirs, str)]
        if not self.asked.exclusive and any(len(theirs) > 1 for theirs in lists):
            raise ValueError(
                "teacher.class_map merges classes, which only those that exclude each other can; "
                f"with task: {self.task} name one for each"
            )
        return self

    @property
    def asked(self) -> Task:
        """The task."""
        return TASKS[self.task]

    def sum(self) -> Objective:
        """The objective."""
        return Sum([(1.0, term.made(self.asked)) for term in self.objective])
