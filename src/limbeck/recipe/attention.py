"""Peers that weigh one another by attention, and the first student as their leader (OKDDip)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import BeforeValidator, Discriminator, Field, PositiveInt, Tag
from torch import Tensor

from limbeck.data import Images, derive
from limbeck.errors import LimbeckError, close
from limbeck.modes import eagerly, evaluating
from limbeck.reader import Reader, is_output
from limbeck.recipe.methods import Method
from limbeck.schemes.attention import Attention, width_of
from limbeck.schemes.taught import PEERS
from limbeck.train.settings import Block

if TYPE_CHECKING:
    from limbeck.recipe.schema import Recipe

FEATURES = "attended"  # what the features are called where peers have them at different places


class Attended(Block):
    """The peers weigh one another by their last features; the first student leads, and ships."""

    kind: Literal["attention"]
    features: str | dict[str, str] = Field(
        description="a module of every peer, or by peer: its last features"
    )
    inner: PositiveInt | None = Field(
        None, description="width of query and key; an eighth of the features' unless given"
    )


def kind_of_teaching(value: Any) -> str:
    """Which of its two kinds `teach` is, as written or as made."""
    return "Attended" if isinstance(value, Mapping | Attended) else "a rule"


def told_fully(value: Any) -> Any:
    """What is written; raises LimbeckError for attention by its name alone."""
    if value == "attention":
        raise LimbeckError(
            "attention needs the features that it looks at: {kind: attention, features: MODULE}"
        )
    return value


Rule = Literal["each", "mean", "naive", "linear", "minlogit", "general"]
Teach = Annotated[
    Annotated[Rule, Tag("a rule")] | Annotated[Attended, Tag("Attended")],
    Discriminator(kind_of_teaching),
    BeforeValidator(told_fully),
]


def faults(recipe: "Recipe", block: Attended) -> Iterator[str]:
    """What does not fit about attention."""
    leader, *peers = recipe.students or {}
    if len(peers) < 2:
        yield (
            "teach: attention needs a leader, which is the first student, and two peers or more, "
            f"got {[leader, *peers]}"
        )
    if isinstance(block.features, dict) and set(block.features) != set(peers):
        strange = next((name for name in block.features if name not in peers), "")
        yield (
            f"teach.features: each of the peers {peers} must have one, got "
            f"{list(block.features)}{close(strange, peers)}"
        )
    for i, entry in enumerate(recipe.objective):
        if PEERS not in entry.asks:
            continue
        if isinstance(entry, Method):
            yield f"objective.{i}: attention learns from losses alone, got method: {entry.method}"
        elif not is_output(entry.theirs or entry.at or "output") or entry.project is not None:
            yield f"objective.{i}: attention mixes outputs as they are; leave out at and project"
    if not any(PEERS in entry.asks for entry in recipe.objective):
        yield "teach: attention needs a loss with source: peers, of which it learns"


def attention(
    block: Attended, readers: Mapping[str, Reader], images: Images, seed: int
) -> Attention:
    """The attention of a recipe's peers, as wide as their features.

    Raises:
        LimbeckError: features that are none, or of different widths.
    """
    leader, *peers = readers
    signal = block.features if isinstance(block.features, str) else FEATURES
    if isinstance(block.features, dict):
        for name, path in block.features.items():
            readers[name].names[FEATURES] = path
    one = images.fetch(torch.tensor([0]))
    widths = {name: width(name, readers[name], signal, one) for name in peers}
    if len({*widths.values()}) > 1:
        raise LimbeckError(
            f"teach.features must be as wide in all peers, got {widths}; name other modules"
        )
    torch.manual_seed(derive(seed, "attention"))
    return Attention(leader, signal, next(iter(widths.values())), block.inner)


def width(name: str, reader: Reader, signal: str, image: Tensor) -> int:
    """How wide the features of a peer are; its images may come in variations of their own."""
    try:
        with torch.no_grad(), evaluating(reader.model), eagerly():
            _, signals = reader.read(reader.adapt(image), [signal])
        return width_of(signals[signal])
    except LimbeckError as error:
        raise LimbeckError(f"teach.features: of {name!r}: {error}") from error
