"""A Python function as a teacher."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.foreign.foreign import Foreign
from limbeck.foreign.runner import Runner, as_array, named
from limbeck.foreign.spec import Spec


def function(
    call: Callable[[NDArray[Any]], Any],
    spec: Spec,
    *,
    inputs: Callable[[Any], Any] | None = None,
    order: Sequence[str] | None = None,
    answer: str | None = None,
    version: str | None = None,
) -> Foreign:
    """Any function of an array, which it cannot write to, to an array or a mapping of arrays.

    Args:
        call: the function.
        spec: what it takes and gives.
        inputs: as for `Foreign`.
        order: as for `Foreign`.
        answer: the field that is the answer, if there are several.
        version: says which function this is; a store needs it, as nothing else can tell.

    Example:
        >>> import torch
        >>> from limbeck.signals import Batch, Signals
        >>> teacher = function(lambda x: 2 * x, Spec("logits", 2, "rows"))
        >>> teacher(Batch(torch.tensor([[1.0, 3.0]])), Signals(), ["output"])["output"]
        tensor([[2., 6.]])
    """
    return Foreign(Function(call, answer, version), spec, inputs=inputs, order=order)


class Function(Runner):
    """A function that is called in this process."""

    def __init__(
        self, call: Callable[[NDArray[Any]], Any], answer: str | None, version: str | None
    ) -> None:
        self.call, self.answer, self.version = call, answer, version
        self.name = f"function:{getattr(call, '__qualname__', type(call).__name__)}"

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        return named(self.call(as_array(inputs)), self.answer, self.name)

    def identity(self) -> dict[str, Any]:
        return {"kind": "function", **told(self.version, self.name)}


def told(version: str | None, name: str) -> dict[str, str]:
    """The version that a person gave; raises LimbeckError without one."""
    if version is None:
        raise LimbeckError(
            f"{name} is code, and code cannot say what its weights are: give version= a word that "
            "you change with them"
        )
    return {"version": version}
