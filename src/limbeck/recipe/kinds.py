"""The kinds of sources that are no network of their own, as a recipe writes them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from limbeck.errors import LimbeckError, close
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


KINDS: dict[str, type[Block]] = {
    "ema": EmaSource,
    "past": PastSource,
    "view": ViewSource,
    "prior": PriorSource,
    "ensemble": EnsembleSource,
    "drawn": DrawnSource,
    "routed": RoutedSource,
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
    return KINDS[kind].__name__ if kind in KINDS else "Teacher"


def known_kind(entry: Any) -> Any:
    """The entry as it is; raises LimbeckError for a kind that there is not."""
    if isinstance(entry, Mapping) and "kind" in entry and entry["kind"] not in KINDS:
        kind = str(entry["kind"])
        raise LimbeckError(
            f"kind must be one of {list(KINDS)}, got {kind!r}{close(kind, KINDS)}; "
            "leave it out for a network"
        )
    return entry
