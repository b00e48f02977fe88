"""What a group of students must be."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError, close
from limbeck.objective import Objective
from limbeck.reader import Reader
from limbeck.schemes.taught import PEERS
from limbeck.taps import plain

Objectives = Objective | Mapping[str, Objective]
TAKEN = ("student", "data", PEERS)  # sources that every student has


def check_students(readers: Mapping[str, Reader]) -> None:
    """Refuses what cannot be a group."""
    check_names(readers)
    models: dict[nn.Module, str] = {}
    for name, reader in readers.items():
        first = models.setdefault(plain(reader.model), name)
        if first != name:
            raise LimbeckError(f"{first!r} and {name!r} are one module; pass a copy")


def check_names(names: Collection[str]) -> None:
    """Refuses too few, and what parts, files and modules cannot be called."""
    if len(names) < 2:
        raise LimbeckError(f"mutual learning needs at least two students, got {list(names)}")
    taken = {*TAKEN, *dir(nn.ModuleDict)}
    for name in names:
        if not name or name in taken or set(name) & set("./:"):
            raise LimbeckError(
                f"a student's name must be without '.', '/' and ':' and none of 'student', 'data', "
                f"{PEERS!r} and the attributes of a ModuleDict, got {name!r}"
            )


def check_data(names: Iterable[str], data: Mapping[str, Any]) -> None:
    for name in names:
        if name not in data:
            raise LimbeckError(
                f"the students read {name!r} from the data, got {sorted(data)}; "
                f"call mutual(inputs, {name}=...){close(name, data)}"
            )


def check_sources(name: str, objective: Objective, known: Sequence[str]) -> None:
    for source, _ in objective.needs():
        if source not in known:
            raise LimbeckError(
                f"the objective of {name!r} reads from {source!r}, but the sources are {known}"
                f"{close(source, known)}"
            )


def by_name(objective: Objectives, names: list[str]) -> Mapping[str, Objective]:
    """The objective of each student."""
    if isinstance(objective, Objective):
        return dict.fromkeys(names, objective)
    if set(objective) != set(names):
        raise LimbeckError(f"objectives by name must be those of {names}, got {list(objective)}")
    return objective
