"""The images of a recipe."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from limbeck.data import Augment, Mix
from limbeck.train.settings import Block, Fraction, NonNegative


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
    views_seed: Annotated[int, Field(ge=0)] | None = Field(
        None, description="of the variations; the recipe's unless given, as a store needs it"
    )
    own_views: bool = Field(False, description="each of several students sees its own variation")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that decode files")
    skip_corrupt: bool = Field(False, description="leave out files that cannot be read")
