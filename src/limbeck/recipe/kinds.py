"""The kinds of sources that are no network of their own, as a recipe writes them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt

from limbeck.errors import LimbeckError, close
from limbeck.foreign.opening import TAKES
from limbeck.foreign.spec import DType, Layout, Output
from limbeck.inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from limbeck.train.settings import Block, NonNegative

Below1 = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


class EmaSource(Block):
    """The student's own average: mean teacher."""

    kind: Literal["ema"]
    decay: Below1 = Field(0.999, description="about 1 / (1 - decay) steps count")
    buffers: Literal["copy", "average", "ignore"] = Field(
        "copy", description="what becomes of batch statistics"
    )


class PastSource(Block):
    """What the student said of each image the last time."""

    kind: Literal["past"]
    precision: Literal["float16", "bfloat16", "float32"] = Field(
        "float16", description="of what is remembered"
    )


class ViewSource(Block):
    """The answer to the other image of a pair, as `data.pairs` makes them."""

    kind: Literal["view"]
    of: str | None = Field(None, description="whose: a source named above it; else the student")


class PriorSource(Block):
    """A teacher made by hand, which knows the labels and nothing else."""

    kind: Literal["prior"]
    correct: Probability = Field(0.9, description="probability of the label")


class EnsembleSource(Block):
    """The mean of several sources."""

    kind: Literal["ensemble"]
    of: list[str] = Field(min_length=1, description="sources named above it")
    mean: Literal["probabilities", "logits"] = Field("probabilities", description="of what")
    temperature: Positive = Field(1.0, description="of the mean; that of the loss which reads it")
    weights: list[Positive] | list[list[NonNegative]] | None = Field(
        None, description="a number each, or a row each with one a class; together 1; equal unless"
    )


class DrawnSource(Block):
    """One of several sources a step, each as likely."""

    kind: Literal["drawn"]
    of: list[str] = Field(min_length=1, description="sources named above it")


class RoutedSource(Block):
    """Each image to the source that knows its class."""

    kind: Literal["routed"]
    of: dict[str, list[str]] = Field(
        min_length=1, description="source named above it -> the classes of which it is asked"
    )


class StoredSource(Block):
    """What a teacher said of each image and view, from a store."""

    kind: Literal["store"] = "store"
    path: str = Field(description="a folder or a URL that limbeck store write has filled")


class ForeignSource(Block):
    """A teacher of any framework, which says what it takes and gives."""

    model: str = Field(
        description="onnx:PATH, openvino:PATH, exported:PATH, keras:PATH, sklearn:PATH, "
        "xgboost:PATH, flax:package.module:name, function:package.module:name"
    )
    output: Output | None = Field(None, description="what it answers, unless the file says so")
    layout: Layout | None = Field(None, description="of the images that it takes")
    dtype: DType = Field("float32", description="of the images that it takes")
    classes: list[str] | None = Field(
        None, description="its classes in the order of its columns; the data's unless given"
    )
    mean: tuple[float, ...] | None = Field(None, description="per channel, of 0..1")
    std: tuple[float, ...] | None = Field(None, description="per channel, of 0..1")
    image_size: PositiveInt | None = Field(None, description="what it sees, in pixels")
    answer: str | None = Field(None, description="which of its outputs")
    python: str | None = Field(None, description="the interpreter of keras and flax")
    version: str | None = Field(None, description="of a flax or function teacher, for a store")
    unsafe_pickle: bool | None = Field(None, description="run the code inside a sklearn file")
    record: bool = Field(False, description="ask once for each image and view, and remember")

    def preprocess(self) -> Preprocess:
        """Its view of an image: ImageNet's mean and deviation unless given."""
        return Preprocess(self.mean or IMAGENET_MEAN, self.std or IMAGENET_STD, self.image_size)


STORE = "store:"
KINDS: dict[str, type[Block]] = {
    "ema": EmaSource,
    "past": PastSource,
    "view": ViewSource,
    "prior": PriorSource,
    "ensemble": EnsembleSource,
    "drawn": DrawnSource,
    "routed": RoutedSource,
    "store": StoredSource,
}
Composed = EnsembleSource | DrawnSource | RoutedSource
OfStudent = EmaSource | PastSource | ViewSource
Own = OfStudent | PriorSource


def members(block: Block) -> list[str]:
    """The sources that a block of one is made of."""
    if isinstance(block, ViewSource):
        return [] if block.of is None else [block.of]
    return [*block.of] if isinstance(block, Composed) else []


def kind_of_source(entry: Any) -> str:
    """Which block an entry of `sources` is, as written or as made; a network unless it says."""
    if not isinstance(entry, Mapping):
        return type(entry).__name__ if isinstance(entry, Block) else "Teacher"
    kind = entry.get("kind")
    if kind in KINDS:
        return KINDS[kind].__name__
    return "ForeignSource" if is_foreign(entry.get("model")) else "Teacher"


def is_foreign(model: Any) -> bool:
    """Whether a model's name is that of another framework's."""
    return isinstance(model, str) and model.partition(":")[0] in TAKES


def known_kind(entry: Any) -> Any:
    """The entry; `store:PATH` written out; raises LimbeckError for a kind that there is not."""
    if isinstance(entry, str) and entry.startswith(STORE):
        return {"kind": "store", "path": entry.removeprefix(STORE)}
    if isinstance(entry, Mapping) and "kind" in entry and entry["kind"] not in KINDS:
        kind = str(entry["kind"])
        raise LimbeckError(
            f"kind must be one of {list(KINDS)}, got {kind!r}{close(kind, KINDS)}; "
            "leave it out for a network"
        )
    return entry


def network_or_store(entry: Any) -> Any:
    """As `known_kind`, for what can only be a network or a store."""
    found = known_kind(entry)
    kind = found.get("kind", "store") if isinstance(found, Mapping) else "store"
    if kind != "store":
        raise LimbeckError(f"a source of kind {kind!r} has its place in sources, under a name")
    return found
