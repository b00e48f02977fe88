"""A student with branches on one trunk, as a recipe has it."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from limbeck.data import derive
from limbeck.errors import LimbeckError
from limbeck.exits import Branched
from limbeck.inputs import Preprocess
from limbeck.reader import Reader
from limbeck.taps import modules_of
from limbeck.train.settings import Block

if TYPE_CHECKING:
    from limbeck.recipe.schema import Recipe


class Branches(Block):
    """Several copies of a network's last part, each of which begins otherwise."""

    count: Annotated[int, Field(ge=2)] = Field(3, description="how many; the first ships")
    at: str = Field(description="the module that they begin with")


def faults(recipe: "Recipe") -> Iterator[str]:
    """What does not fit about branches."""
    block = recipe.student.branches
    for name, each in (recipe.students or {}).items():
        if each.branches is not None:
            yield f"students.{name}.branches: branches are for a student alone; leave them out"
    for i, entry in enumerate(recipe.objective):
        if block is None and reads_branches(entry):
            yield f"objective.{i} reads branches, but the student has none; set student.branches"
        said = entry.keywords().get("branches")
        if block is not None and said not in (None, block.count):
            yield (
                f"objective.{i}.branches must be the student's {block.count}, got {said}; "
                "leave it out"
            )
    if block is None or recipe.students is not None:
        return
    if recipe.student.exits is not None:
        yield "student.branches: a student has exits or branches; leave one of them out"
    if recipe.chain is not None:
        yield "student.branches: the stages of a chain have none; leave out branches, or the chain"


def reads_branches(entry: Any) -> bool:
    """Whether an entry reads what branches alone have."""
    return any(
        whose == "student" and name.startswith("output.branches") for whose, name in entry.needs
    )


def with_branches(
    model: nn.Module,
    view: Preprocess,
    block: Branches,
    seed: int,
    inputs: Tensor,
    network: Callable[[int], nn.Module],
) -> Reader:
    """A student with branches, whose layers and output have the names that they have without.

    Args:
        network: another of the same kind, its fresh weights drawn from a seed.

    Raises:
        LimbeckError: a network that cannot be cut there.
    """
    names = {path: f"model.{path}" for path in modules_of(model) if path}
    others = [network(derive(seed, f"branch {k}")) for k in range(1, block.count)]
    torch.manual_seed(derive(seed, "gate"))
    try:
        made = Branched([model, *others], inputs, block.at)
    except LimbeckError as error:
        raise LimbeckError(f"student.branches.at: {error}") from error
    return Reader(made, inputs=view, names={**names, "output": "output.logits"})
