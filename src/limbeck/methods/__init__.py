"""The index of methods, from the losses' own words; needs no framework."""

import inspect
import re

from limbeck import losses
from limbeck.errors import LimbeckError, close

FAMILIES = {"logits": "logit", "features": "feature", "relations": "relation"}


def index() -> str:
    """A line for each method: name, family, what it is."""
    rows = [(name, family(name), first_line(name)) for name in losses.__all__]
    rows.sort(key=lambda row: (list(FAMILIES.values()).index(row[1]), row[0]))
    return "\n".join(f"{name:<15} {kind:<9} {line}" for name, kind, line in rows)


def explain(name: str) -> str:
    """Signature, formula, arguments, example and paper of one method."""
    if name not in losses.__all__:
        raise LimbeckError(
            f"a method must be one of {losses.__all__}, got {name!r}{close(name, losses.__all__)}"
        )
    function = getattr(losses, name)
    parameters = re.sub(r": [\w.]+", "", str(inspect.signature(function))).split(" ->")[0]
    return f"{name}{parameters}\n\n{inspect.getdoc(function)}"


def family(name: str) -> str:
    return FAMILIES[getattr(losses, name).__module__.rsplit(".", 1)[1]]


def first_line(name: str) -> str:
    return (inspect.getdoc(getattr(losses, name)) or "").partition("\n")[0]
