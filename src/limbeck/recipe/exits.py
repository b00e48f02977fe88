"""A student with exits, as a recipe has it."""

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.exits import Exits, find
from limbeck.inputs import Preprocess
from limbeck.reader import Reader
from limbeck.taps import modules_of


def with_exits(model: nn.Module, view: Preprocess, at: int | list[str], inputs: Tensor) -> Reader:
    """A student with exits, whose layers and output have the names that they have without."""
    places = find(model, inputs, at) if isinstance(at, int) else at
    if isinstance(at, int) and len(places) != at + 1:
        raise LimbeckError(
            f"student.exits: {at} exits were asked for, but places were found for "
            f"{len(places) - 1}, {places[:-1]}; name them, or ask for as many"
        )
    names = {path: f"model.{path}" for path in modules_of(model) if path}
    made = Exits(model, inputs, places)
    return Reader(made, inputs=view, names={**names, "output": "output.logits"})
