"""Sources beside several students: those that all share, and those that each has for itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from limbeck.errors import LimbeckError
from limbeck.reader import Reader
from limbeck.schemes.checks import TAKEN
from limbeck.sources import Ema, Recorded, Source, as_source
from limbeck.sources.several import Several

Teacher = nn.Module | Reader | Source
Sources = Teacher | Mapping[str, Teacher | Mapping[str, Teacher]]


@dataclass(frozen=True)
class Beside:
    """Sources by name: `shared` by all, `own` by student, then by name."""

    shared: dict[str, Source]
    own: dict[str, dict[str, Source]]

    def all(self) -> dict[str, Source]:
        """Every source once; that of one student is called `"student/name"`."""
        own = {f"{who}/{n}": s for who, theirs in self.own.items() for n, s in theirs.items()}
        return self.shared | own


def beside(sources: Sources, students: Sequence[str]) -> Beside:
    """What `Mutual` is given, in order.

    Raises:
        LimbeckError: a name that is taken, a source of one student that all would share, a mapping
            that lacks a student.
    """
    named = sources if isinstance(sources, Mapping) else {"teacher": sources}
    found = Beside({}, {student: {} for student in students})
    for name, source in named.items():
        if name in (*TAKEN, *students):
            raise LimbeckError(
                f"{name!r} is a source of several students already; name yours otherwise"
            )
        if isinstance(source, Mapping):
            for student, theirs in of_each(name, source, students).items():
                found.own[student][name] = theirs
        else:
            found.shared[name] = common(name, as_source(name, source))
    return found


def of_each(
    name: str, sources: Mapping[str, Teacher], students: Sequence[str]
) -> dict[str, Source]:
    """A source for each student."""
    if set(sources) != set(students):
        raise LimbeckError(
            f"source {name!r} must be one for all, or one for each of {list(students)}, got "
            f"{list(sources)}"
        )
    return {student: as_source(name, sources[student]) for student in students}


def common(name: str, source: Source) -> Source:
    """A source that all may share."""
    if personal(source):
        raise LimbeckError(
            f"source {name!r} knows one student alone; give one to each by name: "
            f"{{{name!r}: {{student: source, ...}}}}"
        )
    return source


def personal(source: Source) -> bool:
    """Whether a source is made of what one student is or says."""
    if isinstance(source, Recorded):
        return personal(source.source)
    if isinstance(source, Several):
        return any(map(personal, source.sources))
    return isinstance(source, Ema) or bool(source.reads(["output"]))
