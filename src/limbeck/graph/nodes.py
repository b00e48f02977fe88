"""Networks, answers and labels as nodes; what one gives another as arrows."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

Kind = Literal["labels", "network", "answer", "student", "part"]


@dataclass(frozen=True)
class Node:
    """Someone who teaches, learns, or both.

    Args:
        name: as the recipe calls it.
        kind: `network` is frozen, `answer` is made of others, `part` belongs to a student.
        note: what it is.
    """

    name: str
    kind: Kind
    note: str = ""

    @property
    def learns(self) -> bool:
        """Whether training moves it."""
        return self.kind in ("student", "part")


@dataclass(frozen=True)
class Arrow:
    """From who gives to who gets.

    Args:
        terms: those of the objective that flow along it, or what part of `end` it is.
        teaches: whether `start` teaches `end`; else it is the labels, or `end` is made of it.
    """

    start: str
    end: str
    terms: tuple[str, ...] = ()
    teaches: bool = True


@dataclass(frozen=True)
class Graph:
    """Who teaches whom.

    Example:
        >>> teacher, student = Node("teacher", "network"), Node("student", "student")
        >>> graph = Graph((teacher, student), (Arrow("teacher", "student", ("kl",)),))
        >>> Graph.of(graph.document()) == graph
        True
    """

    nodes: tuple[Node, ...]
    arrows: tuple[Arrow, ...]

    def node(self, name: str) -> Node:
        """The node of a name."""
        return next(node for node in self.nodes if node.name == name)

    def apart(self) -> list[Node]:
        """Those that give nothing and get nothing."""
        met = {name for arrow in self.arrows for name in (arrow.start, arrow.end)}
        return [node for node in self.nodes if node.name not in met]

    def document(self) -> dict[str, Any]:
        """The graph as JSON has it."""
        return {
            "nodes": [asdict(node) for node in self.nodes],
            "arrows": [{**asdict(arrow), "terms": list(arrow.terms)} for arrow in self.arrows],
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Graph":
        """The graph that a document says."""
        return cls(
            tuple(Node(**node) for node in document["nodes"]),
            tuple(
                Arrow(each["start"], each["end"], tuple(each["terms"]), each["teaches"])
                for each in document["arrows"]
            ),
        )


def joined(arrows: Iterable[Arrow]) -> tuple[Arrow, ...]:
    """The arrows with those between the same two as one, each of their terms once.

    >>> joined([Arrow("a", "b", ("kl",)), Arrow("a", "b", ("hint",)), Arrow("a", "b", ("kl",))])
    (Arrow(start='a', end='b', terms=('kl', 'hint'), teaches=True),)
    """
    found: dict[tuple[str, str, bool], Arrow] = {}
    for arrow in arrows:
        key = (arrow.start, arrow.end, arrow.teaches)
        first = found.setdefault(key, replace(arrow, terms=()))
        found[key] = replace(first, terms=tuple(dict.fromkeys([*first.terms, *arrow.terms])))
    return tuple(found.values())
