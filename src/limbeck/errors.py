"""Errors of one line: what was expected, what came, what to do."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class LimbeckError(ValueError):
    """A run that cannot go on; the message is for the person who started it."""

    exit_code = 1


class RecipeError(LimbeckError):
    """Everything that is wrong with a recipe, all at once."""

    exit_code = 2

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def close(name: str, options: Iterable[str]) -> str:
    """The hint that ends an error about an unknown name, or nothing.

    >>> close("layr3", ["layer2", "layer3", "fc"])
    "; did you mean 'layer3'?"
    >>> close("zebra", ["layer2", "fc"])
    ''
    """
    lowered = {option.lower(): option for option in options}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[found[0]]!r}?" if found else ""


def need(module: str, extra: str) -> ModuleType:
    """The optional package `module`, or the one line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise
        package = module.split(".")[0]
        raise LimbeckError(f"this needs {package}: pip install 'limbeck[{extra}]'") from error
