"""What a store keeps of a signal: its codec, the shape of a row, whether rows are tokens."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from limbeck.errors import LimbeckError, close
from limbeck.store.codec import Codec
from limbeck.store.dense import Float16, Float32, Hard, Int8, Logits
from limbeck.store.sparse import HeadAndTail, Sampled, TopK

CODECS: dict[str, type[Codec]] = {
    kind.name: kind for kind in (Float32, Float16, Logits, Int8, Hard, TopK, Sampled, HeadAndTail)
}


@dataclass(frozen=True)
class Kept:
    """A signal of a store.

    Args:
        codec: how its rows are kept.
        shape: of a row: of a sample, or of a token.
        tokens: whether each sample has as many rows as it has tokens.
    """

    codec: Codec
    shape: tuple[int, ...]
    tokens: bool = False

    def as_json(self) -> dict[str, Any]:
        codec = {"name": self.codec.name, **asdict(self.codec)}  # pyrefly: ignore[bad-argument-type]
        return {"codec": codec, "shape": list(self.shape), "tokens": self.tokens}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Kept":
        settings = dict(told["codec"])
        made = codec(settings.pop("name"), **settings)
        return cls(made, tuple(told["shape"]), told["tokens"])


def codec(name: str, **settings: Any) -> Codec:
    """A codec by its name and settings, as recipes and the command line have them.

    Raises:
        LimbeckError: no such codec, or a setting that it does not have.

    >>> codec("topk", k=50)
    TopK(temperature=1.0, k=50, values='float16')
    """
    if name not in CODECS:
        raise LimbeckError(
            f"codec must be one of {list(CODECS)}, got {name!r}{close(name, CODECS)}"
        )
    known = [each.name for each in fields(CODECS[name])]  # pyrefly: ignore[bad-argument-type]
    for setting in settings:
        if setting not in known:
            raise LimbeckError(
                f"codec {name!r} takes {known or 'no settings'}, got {setting!r}"
                f"{close(setting, known)}"
            )
    try:
        return CODECS[name](**settings)
    except TypeError as error:
        raise LimbeckError(f"codec {name!r} needs {known}, got {settings}") from error
