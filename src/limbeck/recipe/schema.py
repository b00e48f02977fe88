"""What a recipe may say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from limbeck.data import Augment, Mix
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from limbeck.models import check_spec
from limbeck.objective import Objective, Sum
from limbeck.recipe.methods import Method
from limbeck.recipe.setting import Setting
from limbeck.recipe.terms import Term
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
    objective: list[Entry] = Field(min_length=1, description="the terms of the loss")
    train: Training = Field(Training(), description="how the student is trained")
    compare: Comparison = Field(Comparison(), description="how the gain is measured")

    @model_validator(mode="after")
    def consistent(self) -> "Recipe":
        if self.teacher is None and any(term.asks_teacher for term in self.objective):
            raise ValueError("the objective asks a teacher, but the recipe has none")
        if self.teacher is not None and self.teacher.record and self.data.views is None:
            raise ValueError("teacher.record needs data.views, the number of recycled variations")
        if all(isinstance(term, Term) and term.balance is not None for term in self.objective):
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

    @model_validator(mode="after")
    def told_apart(self) -> "Recipe":
        """No part of a method has the name of another; of two losses, their sum tells."""
        owners: dict[str, int] = {}
        for i, entry in enumerate(self.objective):
            with torch.random.fork_rng([]):
                parts = entry.made(Setting(self.asked)).parts()
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

    def sum(self, setting: Setting | None = None) -> Objective:
        """The objective; modules of the teacher are stand-ins, unless the setting has a teacher."""
        found = setting or Setting(self.asked)
        return Sum([(1.0, term.made(found)) for term in self.objective])
