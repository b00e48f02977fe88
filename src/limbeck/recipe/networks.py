"""The networks of a recipe, and what else teaches."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from limbeck.models import check_spec
from limbeck.recipe.branches import Branches
from limbeck.recipe.kinds import (
    DrawnSource,
    EmaSource,
    EnsembleSource,
    ForeignSource,
    PastSource,
    PriorSource,
    RoutedSource,
    StoredSource,
    ViewSource,
    kind_of_source,
    known_kind,
    network_or_store,
)
from limbeck.train.settings import Block, Fraction, Training


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


class Optimize(Block):
    """How a teacher is made faster: batch norms, then integers, its precision, its engine."""

    fold_bn: bool = Field(False, description="batch norms become part of convolutions before them")
    int8: bool = Field(False, description="linear layers compute in 8-bit integers, on the CPU")
    engine: Literal["torch", "compile", "openvino"] = Field(
        "torch", description="what runs it: torch as it is, torch.compile, OpenVINO on the CPU"
    )
    loses: Fraction = Field(
        0.02, description="share of images that it may see otherwise than the exact teacher"
    )

    @model_validator(mode="after")
    def fits(self) -> "Optimize":
        if self.int8 and self.engine == "openvino":
            raise ValueError("int8 layers are torch's; leave out int8, or engine: openvino")
        return self


class Teacher(Model):
    """A network that teaches."""

    class_map: dict[str, str | list[str]] | None = Field(
        None, description="student class -> teacher class or classes, where they differ"
    )
    classes: list[str] | None = Field(None, description="its classes in order, where they differ")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="of its weights")
    channels_last: bool = Field(False, description="memory format")
    optimize: Optimize | None = None
    record: bool = Field(False, description="ask once for each image and view, and remember")
    shard: bool | list[str] = Field(
        False, description="train.parallel: fsdp: the ranks hold it in parts; true, or its blocks"
    )
    fit: Training | None = Field(None, description="train it first, on the labelled images")

    @field_validator("exits", "branches")
    @classmethod
    def has_none(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None:
            raise ValueError(f"{info.field_name} are for the student, which they teach")
        return value

    @model_validator(mode="after")
    def one_format(self) -> "Teacher":
        if self.channels_last and self.optimize and self.optimize.engine == "openvino":
            raise ValueError("OpenVINO has formats of its own; leave out channels_last")
        return self

    @model_validator(mode="after")
    def in_parts(self) -> "Teacher":
        """A teacher in parts is torch's own, and asked on all ranks at once."""
        how = self.optimize or Optimize()
        whole = {
            "record": self.record,
            "channels_last": self.channels_last,
            "optimize.int8": how.int8,
            f"optimize.engine: {how.engine}": how.engine != "torch",
        }
        found = [key for key, said in whole.items() if said]
        if self.shard is not False and found:
            raise ValueError(
                f"shard is for a teacher that all ranks ask as it is, got {', '.join(found)}; "
                "leave out shard, or these"
            )
        return self


class Assistant(Model):
    """A network between teacher and student."""

    train: Training | None = Field(None, description="as the student's unless given")


NamedSource = Annotated[
    Annotated[Teacher, Tag("Teacher")]
    | Annotated[EmaSource, Tag("EmaSource")]
    | Annotated[PastSource, Tag("PastSource")]
    | Annotated[ViewSource, Tag("ViewSource")]
    | Annotated[PriorSource, Tag("PriorSource")]
    | Annotated[EnsembleSource, Tag("EnsembleSource")]
    | Annotated[DrawnSource, Tag("DrawnSource")]
    | Annotated[RoutedSource, Tag("RoutedSource")]
    | Annotated[StoredSource, Tag("StoredSource")]
    | Annotated[ForeignSource, Tag("ForeignSource")],
    Discriminator(kind_of_source),
    BeforeValidator(known_kind),
]
Taught = Annotated[
    Annotated[Teacher, Tag("Teacher")]
    | Annotated[StoredSource, Tag("StoredSource")]
    | Annotated[ForeignSource, Tag("ForeignSource")],
    Discriminator(kind_of_source),
    BeforeValidator(network_or_store),
]
