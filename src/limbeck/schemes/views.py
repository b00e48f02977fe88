"""The inputs of several students: one for all, or each student's own by name."""

from collections.abc import Mapping, Sequence
from typing import Any

from limbeck.errors import LimbeckError

Inputs = Mapping[str, Any]


def is_by_name(inputs: Any, students: Sequence[str]) -> bool:
    """Whether these are each student's own.

    >>> is_by_name({"a": 1, "b": 2}, ["a", "b"]), is_by_name({"pixels": 1}, ["a", "b"])
    (True, False)
    """
    return isinstance(inputs, Mapping) and bool(set(inputs) & set(students))


def each_inputs(inputs: Any, students: Sequence[str]) -> Inputs:
    """The inputs of each student by name."""
    if not is_by_name(inputs, students):
        return dict.fromkeys(students, inputs)
    if set(inputs) != set(students):
        raise LimbeckError(
            f"inputs by name must be those of {list(students)}, got {sorted(inputs)}; "
            "a mapping that is one input must share no name with a student"
        )
    return inputs


def common_inputs(inputs: Any, students: Sequence[str], sources: Sequence[str]) -> Any:
    """What sources see that all students share; `sources` are those that look at their inputs."""
    if not is_by_name(inputs, students):
        return inputs
    if sources:
        raise LimbeckError(
            f"{sources[0]!r} answers once for all students, so that all must see the same inputs, "
            "got each student's own by name; give each a source of its own, or one input"
        )
    return inputs[students[0]]
