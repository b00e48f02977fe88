"""Layer maps: which layer of a shallow transformer learns from which of a deep one.

A map is a list of pairs (student, source) of hidden states, counted as models return them: state 0
is the embeddings' output and state k that of block k, so that L blocks have L + 1 states.
Attentions have no entry for the embeddings: `attentions` moves a map to their numbers.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from limbeck.errors import LimbeckError
from limbeck.objective import Loss, Match, title
from limbeck.projectors import Factory

Pairs = list[tuple[int, int]]


def uniform(student: int, source: int) -> Pairs:
    """Every state of the student, spread evenly over the source's, both ends included.

    >>> uniform(6, 12)
    [(0, 0), (1, 2), (2, 4), (3, 6), (4, 8), (5, 10), (6, 12)]
    >>> uniform(5, 12)
    [(0, 0), (1, 2), (2, 5), (3, 7), (4, 10), (5, 12)]
    """
    check(student, source)
    return [(k, (2 * k * source + student) // (2 * student)) for k in range(student + 1)]


def skip(student: int, source: int) -> Pairs:
    """PKD-skip: the blocks before the last, evenly spread; neither embeddings nor last block.

    >>> skip(6, 12)
    [(1, 2), (2, 4), (3, 6), (4, 8), (5, 10)]
    """
    return uniform(student, source)[1:-1]


def last(student: int, source: int) -> Pairs:
    """PKD-last: the blocks before the last, from the deepest ones of the source before its last.

    >>> last(6, 12)
    [(1, 7), (2, 8), (3, 9), (4, 10), (5, 11)]
    """
    check(student, source)
    return [(k, source - student + k) for k in range(1, student)]


def attentions(pairs: Iterable[tuple[int, int]]) -> Pairs:
    """A map of hidden states as one of attentions, which start with the first block.

    >>> attentions(uniform(6, 12))
    [(0, 1), (1, 3), (2, 5), (3, 7), (4, 9), (5, 11)]
    """
    return [(s - 1, t - 1) for s, t in pairs if s > 0 and t > 0]


def named(
    pairs: Iterable[tuple[int, int]], student: str, theirs: str | None = None
) -> list[tuple[str, str]]:
    """A map as names of signals; `{}` in a name stands for the number.

    >>> named(skip(3, 6), "output.hidden_states.{}", "states.{}")
    [('output.hidden_states.1', 'states.2'), ('output.hidden_states.2', 'states.4')]
    """
    theirs = theirs or student
    for name in (student, theirs):
        if "{}" not in name:
            raise LimbeckError(f"a layer's name must have {{}} where its number goes, got {name!r}")
    return [(student.replace("{}", str(s)), theirs.replace("{}", str(t))) for s, t in pairs]


def matches(
    loss: Loss,
    names: Iterable[tuple[str, str]],
    *,
    source: str = "teacher",
    project: Factory | None = None,
    given: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Match]:
    """One match for each pair of signals, named after the student's; the rest is that of `Match`.

    >>> from limbeck import losses
    >>> names = named(uniform(1, 2), "output.hidden_states.{}")
    >>> [match.name for match in matches(losses.hint, names, options={"axis": -1})]
    ['hint[output.hidden_states.0]', 'hint[output.hidden_states.1]']
    """
    names = list(names)
    if not names:
        raise LimbeckError(f"{title(loss)} needs at least one pair of layers, got none")
    return [
        Match(
            loss,
            student,
            theirs,
            source=source,
            project=project,
            given=given,
            name=f"{title(loss)}[{student}]",
            **(options or {}),
        )
        for student, theirs in names
    ]


def check(student: int, source: int) -> None:
    """Raises LimbeckError for depths that no map joins."""
    if not 1 <= student <= source:
        raise LimbeckError(
            f"a map needs 1 <= student's blocks <= source's blocks, got {student} and {source}; "
            "count blocks, not hidden states"
        )
