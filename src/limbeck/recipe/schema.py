"""What a recipe may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import nn

from limbeck.data import Augment, Mix
from limbeck.errors import RecipeError, close
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from limbeck.models import check_spec
from limbeck.objective import Objective, Sum
from limbeck.recipe.attention import Teach
from limbeck.recipe.branches import Branches
from limbeck.recipe.kinds import (
    DrawnSource,
    EmaSource,
    EnsembleSource,
    PastSource,
    PriorSource,
    RoutedSource,
    ViewSource,
    kind_of_source,
    known_kind,
)
from limbeck.recipe.methods import Method
from limbeck.recipe.setting import Setting
from limbeck.recipe.students import check_group
from limbeck.recipe.terms import Term
from limbeck.recipe.whole import faults, merges
from limbeck.tasks import TASKS, Task
from limbeck.train.settings import Block, Fraction, NonNegative, Training


class Variation(Block):
    """How single images vary."""

    crop: Annotated[int, Field(ge=0)] = Field(0, description="shift by up to so many pixels")
    padding: Literal["zero", "reflect"] = Field("zero", description="what a shift uncovers")
    flip: bool = Field(False, description="mirror half of them")
    resized_crop: tuple[Fraction, Fraction] | None = Field(
        None, description="random crop of this fraction of the area, resized"
    )
    randaugment: tuple[int, int] | None = Field(None, description="operations, magnitude")

    def augment(self) -> Augment | None:
        made = Augment(
            crop=self.crop,
            flip=self.flip,
            resized_crop=self.resized_crop,
            randaugment=self.randaugment,
            padding=self.padding,
        )
        return None if made == Augment() else made


class Augmentation(Variation):
    """How training images vary; teacher and student see the same variation."""

    mixup: NonNegative = Field(0.0, description="alpha of the Beta distribution")
    cutmix: NonNegative = Field(0.0, description="alpha of the Beta distribution")

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
    labels_seed: Annotated[int, Field(ge=0)] | None = Field(
        None, description="of which labels are kept; the recipe's unless given"
    )
    unlabelled: bool = Field(True, description="train on images without label too")
    augment: Augmentation = Field(Augmentation(), description="random variation")
    views: PositiveInt | None = Field(None, description="recycle so many variations of an image")
    pairs: Literal["view", "class", "last"] | None = Field(
        None,
        description="a batch is two halves: two views of an image, two images of a class, or new "
        "images and those of the last batch",
    )
    strong: Variation | None = Field(
        None,
        description="how the half of a pair varies that learns, data.first, where the half that "
        "teaches, data.second, varies by augment",
    )
    own_views: bool = Field(False, description="each of several students sees its own variation")
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
    exits: PositiveInt | list[str] | None = Field(
        None,
        description="of a student: classifiers half-way, so many or at these modules, of which the "
        "last is the deepest and has none",
    )
    branches: Branches | None = Field(
        None, description="of a student: its last part several times, on one trunk, with a gate"
    )

    @field_validator("model")
    @classmethod
    def exists(cls, value: str) -> str:
        check_spec(value)
        return value

    @property
    def exit_count(self) -> int | None:
        """How many exits there are beside the model's own; None without any."""
        return len(self.exits) - 1 if isinstance(self.exits, list) else self.exits

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

    @field_validator("exits", "branches")
    @classmethod
    def has_none(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            raise ValueError(f"{info.field_name} are for the student, which they teach")
        return value


NamedSource = Annotated[
    Annotated[Teacher, Tag("Teacher")]
    | Annotated[EmaSource, Tag("EmaSource")]
    | Annotated[PastSource, Tag("PastSource")]
    | Annotated[ViewSource, Tag("ViewSource")]
    | Annotated[PriorSource, Tag("PriorSource")]
    | Annotated[EnsembleSource, Tag("EnsembleSource")]
    | Annotated[DrawnSource, Tag("DrawnSource")]
    | Annotated[RoutedSource, Tag("RoutedSource")],
    Discriminator(kind_of_source),
    BeforeValidator(known_kind),
]


class Assistant(Model):
    """A network between teacher and student."""

    train: Training | None = Field(None, description="as the student's unless given")


class Chain(Block):
    """Trainings one after another, each taught by those before it; the student's is the last."""

    generations: PositiveInt | None = Field(
        None, description="so many more of the student, each taught by the one before"
    )
    assistants: list[Assistant] | None = Field(
        None, min_length=1, description="networks between teacher and student, the largest first"
    )
    dense: bool = Field(False, description="each learns from all before it, the teacher included")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="chance of each of those to be left out of a step; one always stays"
    )

    @model_validator(mode="after")
    def one_kind(self) -> "Chain":
        if (self.generations is None) == (self.assistants is None):
            raise ValueError("a chain has generations or assistants; name one of them")
        if self.dense and self.assistants is None:
            raise ValueError("dense is for assistants; a generation learns from the one before")
        if self.drop and not self.dense:
            raise ValueError("drop leaves out teachers of a dense chain; set dense: true")
        return self


class Dense(Block):
    """Sources that share the teacher's terms, each with an equal part of their weight."""

    of: list[str] = Field(min_length=1, description="the teacher and further sources")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="chance of each to be left out of a step; one always stays"
    )


def kind_of(entry: Any) -> str:
    """Which of its two kinds an entry of the objective is, as written or as made."""
    written = isinstance(entry, Mapping) and "method" in entry
    return "a method" if written or isinstance(entry, Method) else "a loss"


Entry = Annotated[
    Annotated[Term, Tag("a loss")] | Annotated[Method, Tag("a method")], Discriminator(kind_of)
]


class Comparison(Block):
    """What `limbeck compare` runs beside the recipe."""

    seeds: PositiveInt = Field(3, description="seeds of each arm")
    arms: dict[str, dict[str, Any]] = Field({}, description="name -> overrides of this recipe")


def clash(part: str, first: int, second: int) -> str:
    """The line about a part that two entries have, one of them a method."""
    cure = "give the loss a name of its own, or leave one of them out"
    if part == "truth":
        cure = "a method brings its own: set truth_weight: 0 or leave out the truth"
    return f"objective.{first} and objective.{second} both have a part {part!r}; {cure}"


UNSAID: Any = None  # a student, until it is the first of several


class Recipe(Block):
    """A distillation, whole."""

    version: Literal[1] = Field(1, description="of this format")
    task: Literal["classification", "multilabel", "regression"] = Field(
        "classification", description="one class an image, several, or numbers"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of every random choice")
    data: Data
    student: Model = Field(
        UNSAID, validate_default=False, description="the network to train; required, or students"
    )
    students: dict[str, Model] | None = Field(
        None, description="instead: several by name, which teach one another; the first ships"
    )
    teach: Teach = Field(
        "each", description="of students: who is the source peers, each other or one answer of all"
    )
    teacher: Teacher | None = None
    sources: dict[str, NamedSource] = Field(
        {}, description="further teachers, by the names that entries of the objective read from"
    )
    chain: Chain | None = None
    dense: Dense | None = None
    objective: list[Entry] = Field(min_length=1, description="the terms of the loss")
    train: Training = Field(Training(), description="how the student is trained")
    compare: Comparison = Field(Comparison(), description="how the gain is measured")

    @field_validator("students")
    @classmethod
    def one_or_several(
        cls, value: dict[str, Model] | None, info: ValidationInfo
    ) -> dict[str, Model] | None:
        if "student" in info.data:  # else it is told already what is wrong with that
            check_group(info.data["student"], value)
        return value

    @model_validator(mode="after")
    def first_ships(self) -> "Recipe":
        """The first of several is the student, wherever one is meant."""
        if self.students is not None:
            self.__dict__["student"] = next(iter(self.students.values()))
        return self

    @model_serializer(mode="wrap")
    def written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The recipe as it can be read again: with a student or with students."""
        content = write(self)
        if self.students is not None:
            content.pop("student", None)
        return content

    @model_validator(mode="after")
    def consistent(self) -> "Recipe":
        found = faults(self)
        if found:
            raise RecipeError(found)
        if self.teacher is not None and self.teacher.record and self.data.views is None:
            raise ValueError("teacher.record needs data.views, the number of recycled variations")
        if all(isinstance(term, Term) and term.balance is not None for term in self.objective):
            raise ValueError("every term has a balance and none a weight to be balanced with")
        return self

    @model_validator(mode="after")
    def linked(self) -> "Recipe":
        """Each stage of a chain has who teaches it, and something to learn from them."""
        if self.chain is None:
            return self
        if self.chain.assistants and self.teacher is None:
            raise ValueError(
                "chain.assistants stand between a teacher and the student, but there is no teacher"
            )
        if not any(term.asks_teacher for term in self.objective):
            raise ValueError(
                "a chain needs a teacher's term in the objective, or its stages learn nothing "
                "from each other"
            )
        return self

    @model_validator(mode="after")
    def shared(self) -> "Recipe":
        """All who share the teacher's terms exist."""
        known = list(self.teachers())
        for name in self.dense.of if self.dense else ():
            if name not in known:
                raise ValueError(f"dense.of must be of {known}, got {name!r}{close(name, known)}")
        if self.dense and not any(term.asks_teacher for term in self.objective):
            raise ValueError("dense shares the teacher's terms, but the objective has none")
        return self

    @model_validator(mode="after")
    def of_one_task(self) -> "Recipe":
        for term in self.objective:
            term.suits(self.asked)
        for name, block in self.networks().items():
            if not self.asked.exclusive and merges(block.class_map):
                where = name if name == "teacher" and self.teacher else f"sources.{name}"
                raise ValueError(
                    f"{where}.class_map merges classes, which only those that exclude each other "
                    f"can; with task: {self.task} name one for each"
                )
        return self

    @model_validator(mode="after")
    def told_apart(self) -> "Recipe":
        """No part of a method has the name of another; of two losses, their sum tells."""
        owners: dict[str, int] = {}
        for i, entry in enumerate(self.objective):
            with torch.random.fork_rng([]):
                parts = entry.made(self.setting()).parts()
            for part in parts:
                first = owners.setdefault(part, i)
                pair = (self.objective[first], entry)
                if first != i and any(isinstance(each, Method) for each in pair):
                    raise ValueError(clash(part, first, i))
        return self

    @property
    def asked(self) -> Task:
        """The task."""
        return TASKS[self.task]

    def setting(self, teacher: nn.Module | None = None, samples: int = 2) -> Setting:
        """What the objective is made for."""
        branches = self.student.branches.count if self.student.branches else 2
        return Setting(self.asked, teacher, samples, self.student.exit_count or 1, branches)

    def teachers(self) -> dict[str, Any]:
        """The blocks of all sources by name, the teacher's first."""
        return {**({} if self.teacher is None else {"teacher": self.teacher}), **self.sources}

    def networks(self) -> dict[str, Teacher]:
        """Those that are networks of their own."""
        return {n: block for n, block in self.teachers().items() if isinstance(block, Teacher)}

    def sum(self, setting: Setting | None = None) -> Objective:
        """The objective; modules of the teacher are stand-ins, unless the setting has a teacher."""
        found = setting or self.setting()
        return Sum([(1.0, term.made(found)) for term in self.objective])
