"""A graph in columns from left to right: who teaches, by what, who learns."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from limbeck.graph.nodes import Arrow, Graph, Node

SAID = "said:"  # what a learner says, as one that stands to the left of all it moves


@dataclass(frozen=True)
class Piece:
    """Something in a column: a node, the words of an arrow, or a place where a line passes."""

    column: int
    node: Node | None = None
    words: tuple[str, ...] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Columns:
    """Pieces by key, and the links between pieces of neighbouring columns."""

    pieces: Mapping[str, Piece]
    links: tuple[tuple[str, str], ...]

    def before(self, key: str) -> list[str]:
        return [start for start, end in self.links if end == key]

    def after(self, key: str) -> list[str]:
        return [end for start, end in self.links if start == key]

    def column(self, number: int) -> list[str]:
        return [key for key, piece in self.pieces.items() if piece.column == number]

    @property
    def count(self) -> int:
        return 1 + max((piece.column for piece in self.pieces.values()), default=-1)


def columns(graph: Graph) -> Columns:
    """Nodes in even columns, words in the odd ones after whom they start from.

    Arrows with the same start and words share one line, which branches. A learner that teaches
    those who teach it stands twice: on the left as what it says, on the right as who learns.
    """
    graph = unrolled(graph)
    rank = ranks(graph)
    pieces = {node.name: Piece(2 * rank[node.name], node) for node in graph.nodes}
    links = list[tuple[str, str]]()
    for (start, words, teaches), ends in bundles(graph.arrows).items():
        line, last = start, 2 * max(rank[end] for end in ends)
        for column in range(2 * rank[start] + 1, last):
            passed = f"{start} {words} {column}"
            first = column == 2 * rank[start] + 1
            pieces[passed] = Piece(column, None, words if first else (), teaches)
            links.append((line, passed))
            links += [(passed, end) for end in ends if 2 * rank[end] == column + 1]
            line = passed
    return Columns(pieces, tuple(links))


def bundles(arrows: Iterable[Arrow]) -> dict[tuple[str, tuple[str, ...], bool], list[str]]:
    """The ends of all arrows with the same start and words."""
    found: dict[tuple[str, tuple[str, ...], bool], list[str]] = {}
    for arrow in arrows:
        found.setdefault((arrow.start, arrow.terms, arrow.teaches), []).append(arrow.end)
    return found


def unrolled(graph: Graph) -> Graph:
    """The graph without cycles: who learns from what it says itself starts as another node.

    Those are learners; then, where cycles are left, all others that somebody teaches.
    """
    graph = opened(graph, {node.name for node in graph.nodes if node.learns})
    return opened(graph, {arrow.end for arrow in graph.arrows if arrow.teaches})


def opened(graph: Graph, whom: set[str]) -> Graph:
    """The graph without cycles through `whom`."""
    reached, twice = reaches(graph), set[str]()
    arrows = list[Arrow]()
    for arrow in graph.arrows:
        if arrow.start in whom & {arrow.end, *reached[arrow.end]}:
            twice.add(arrow.start)
            arrow = replace(arrow, start=SAID + arrow.start)
        arrows.append(arrow)
    said = [Node(SAID + node.name, "answer") for node in graph.nodes if node.name in twice]
    return Graph((*said, *graph.nodes), tuple(arrows))


def reaches(graph: Graph) -> dict[str, set[str]]:
    """Whom each node reaches by arrows."""
    found = {
        node.name: {a.end for a in graph.arrows if a.start == node.name} for node in graph.nodes
    }
    for _ in graph.nodes:
        found = {name: ends.union(*(found[end] for end in ends)) for name, ends in found.items()}
    return found


def ranks(graph: Graph) -> dict[str, int]:
    """How many steps each node is from the left; who gets nothing stands by whom it gives to."""
    found = dict.fromkeys((node.name for node in graph.nodes), 0)
    for _ in graph.nodes:
        for arrow in graph.arrows:
            found[arrow.end] = max(found[arrow.end], found[arrow.start] + 1)
    ends = {arrow.end for arrow in graph.arrows}
    for name in found:
        after = [found[arrow.end] for arrow in graph.arrows if arrow.start == name]
        if after and name not in ends:
            found[name] = min(after) - 1
    return found
