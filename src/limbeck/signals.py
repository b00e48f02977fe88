"""The words that every room shares: batch, signals, step."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from limbeck.errors import close

if TYPE_CHECKING:
    from torch import Tensor


class Step(NamedTuple):
    """What one call of a distiller returns.

    `loss` is the sum of `parts`; `parts` are weighted, detached and named (`"truth"`, `"kl"`,
    `"hint[layer3]:big"`); `output` is what the student returned.
    """

    loss: "Tensor"
    output: Any
    parts: dict[str, "Tensor"]


@dataclass(frozen=True)
class Batch:
    """The inputs of the models and everything else that came with them (labels, masks, ids)."""

    inputs: Any
    data: Mapping[str, Any] = field(default_factory=dict)


class Signals(dict[str, Mapping[str, Any]]):
    """Signals by source, then by name: `signals["student"]["layer3.1"]`.

    >>> Signals(data={"target": 3}).read("data:target")
    3
    """

    def of(self, source: str, name: str) -> Any:
        """The signal `name` of `source`; raises KeyError with what there is."""
        if source not in self:
            hint = close(source, self)
            raise KeyError(f"the sources are {sorted(self)}, got {source!r}{hint}")
        theirs = self[source]
        if name not in theirs:
            raise KeyError(f"{source} gives {sorted(theirs)}, got {name!r}{close(name, theirs)}")
        return theirs[name]

    def read(self, address: str) -> Any:
        """The signal at `"source:name"`."""
        source, name = split(address)
        return self.of(source, name)


def split(address: str) -> tuple[str, str]:
    """`"data:valid.8"` to `("data", "valid.8")`."""
    source, colon, name = address.partition(":")
    if not (source and colon and name):
        raise ValueError(f"a bound signal must be 'source:name', got {address!r}")
    return source, name
