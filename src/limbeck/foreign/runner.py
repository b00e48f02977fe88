"""What each framework's adapter does: tensors in, named outputs out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from limbeck.errors import LimbeckError, close


@dataclass(frozen=True)
class Takes:
    """What a model says itself of its inputs; None where it leaves it open."""

    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None


class Runner:
    """A model of some framework.

    `name` is how errors call it; `names` are its outputs beside `"output"`, the answer, or None
    where only a call can tell.
    """

    name: str
    names: Sequence[str] | None = None
    takes: Takes = Takes()

    def __call__(self, inputs: Tensor, wants: Sequence[str]) -> Mapping[str, Any]:
        """The wanted outputs of a batch, as arrays or tensors; `inputs` must not be written to."""
        raise TypeError(f"{type(self).__name__} must be callable on a batch")

    def identity(self) -> dict[str, Any]:
        """What says that it is this model and no other, as JSON can hold it."""
        raise TypeError(f"{type(self).__name__} must say which model it is")

    def modules(self) -> list[nn.Module]:
        """The torch modules inside."""
        return []

    def close(self) -> None:
        """Gives back what it holds outside of Python."""


def as_array(inputs: Tensor) -> NDArray[Any]:
    """A batch as an array that cannot be written to: it may share the student's memory."""
    array = inputs.detach().cpu().contiguous().numpy()
    view = array.view()
    view.flags.writeable = False
    return view


def named(result: Any, answer: str | None, name: str) -> dict[str, Any]:
    """A model's result by name, the answer as `"output"`.

    One array is the answer; the fields of a mapping have their names, those of a sequence their
    numbers, and `answer` says which is the answer if there are several and none is called so.
    """
    if isinstance(result, Mapping):
        fields = {str(key): value for key, value in result.items()}
    elif isinstance(result, tuple | list):
        fields = {str(k): value for k, value in enumerate(result)}
    else:
        return {"output": result}
    return {**fields, "output": fields[chosen(list(fields), answer, name)]}


def chosen(names: Sequence[str], answer: str | None, name: str) -> str:
    """Which output is the answer.

    >>> chosen(["pool", "output"], None, "it")
    'output'
    """
    if answer is None and "output" in names:
        return "output"
    if answer is None and len(names) == 1:
        return names[0]
    if answer is None or answer not in names:
        hint = "" if answer is None else f", got {answer!r}{close(answer, names)}"
        raise LimbeckError(
            f"{name} has the outputs {list(names)}; say by answer= which is the answer{hint}"
        )
    return answer
