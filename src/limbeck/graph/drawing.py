"""A graph as inline SVG in the colour of the text around it."""

from collections.abc import Iterator, Mapping
from html import escape

from limbeck.graph.layers import Columns, Piece, columns
from limbeck.graph.letters import width
from limbeck.graph.nodes import Graph
from limbeck.graph.places import LINE, PAD, Place, places, texts

DASHES = ' stroke-dasharray="4 3"'


def drawing(graph: Graph) -> str:
    """Boxes are networks, round ones what is said; dashed lines teach, the others make.

    >>> from limbeck.graph import Arrow, Node
    >>> pair = Node("teacher", "network"), Node("student", "student")
    >>> print(drawing(Graph(pair, (Arrow("teacher", "student", ("kl",)),))).partition(" style")[0])
    <svg viewBox="0 0 247 28" role="img" aria-label="teacher to student: kl"
    """
    made = columns(graph)
    at = places(made)
    wide = max((place.right for place in at.values()), default=0.0) + 1
    high = max((place.top + place.height for place in at.values()), default=0.0) + 1
    parts = [*frames(made, at), *strokes(made, at), *words(made, at)]
    size = f"max-width:{wide:.0f}px;min-width:min({wide:.0f}px,36rem)"
    head = (
        f'<svg viewBox="0 0 {wide:.0f} {high:.0f}" role="img" aria-label="{escape(aloud(graph))}" '
        f'style="{size}" fill="none" stroke="currentColor">'
    )
    return "\n".join([head, *parts, "</svg>"])


def aloud(graph: Graph) -> str:
    """The arrows in words."""
    said = [
        f"{arrow.start} to {arrow.end}" + (f": {', '.join(arrow.terms)}" if arrow.terms else "")
        for arrow in graph.arrows
    ]
    return "; ".join(said) or ", ".join(node.name for node in graph.nodes)


def frames(made: Columns, at: Mapping[str, Place]) -> Iterator[str]:
    """The outline of each node."""
    for key, piece in made.pieces.items():
        if piece.node is not None:
            place, square = at[key], piece.node.kind in ("network", "student")
            yield (
                f'<rect x="{place.x:.1f}" y="{place.top:.1f}" width="{place.width:.1f}" '
                f'height="{place.height:.1f}" rx="{4 if square else 14}" />'
            )


def strokes(made: Columns, at: Mapping[str, Place]) -> Iterator[str]:
    """The lines of each kind, then the heads where they end."""
    for dashed in (False, True):
        found = [*lines(made, at, dashed)]
        if found:
            yield f'<path d="{" ".join(found)}"{DASHES if dashed else ""} />'
    heads = [head(at[end].x, ports(made, at, end)[start]) for start, end in ended(made)]
    if heads:
        yield f'<path d="{" ".join(heads)}" />'


def lines(made: Columns, at: Mapping[str, Place], dashed: bool) -> Iterator[str]:
    """What lies between pieces, and what passes by the words of a column."""
    for start, end in made.links:
        whose = start if made.pieces[end].node else end
        if made.pieces[whose].dashed == dashed:
            y = ports(made, at, end)[start] if made.pieces[end].node else at[end].y
            yield curve(at[start].right, at[start].y, at[end].x, y)
    for key, piece in made.pieces.items():
        if piece.node is None and piece.dashed == dashed:
            yield from passing(piece, at[key])


def passing(piece: Piece, place: Place) -> Iterator[str]:
    """A line through a column, which its words interrupt."""
    half = max((width(text, size) for text, size in texts(piece)), default=0.0) / 2 + PAD / 2
    middle = place.x + place.width / 2
    if not texts(piece):
        yield f"M{place.x:.1f} {place.y:.1f}H{place.right:.1f}"
    else:
        yield f"M{place.x:.1f} {place.y:.1f}H{middle - half:.1f}"
        yield f"M{middle + half:.1f} {place.y:.1f}H{place.right:.1f}"


def ended(made: Columns) -> list[tuple[str, str]]:
    return [(start, end) for start, end in made.links if made.pieces[end].node is not None]


def ports(made: Columns, at: Mapping[str, Place], key: str) -> dict[str, float]:
    """The height at which each line ends at a node, in the order in which they come."""
    coming = sorted(made.before(key), key=lambda start: at[start].y)
    step = at[key].height / (len(coming) + 1)
    return {start: at[key].top + step * k for k, start in enumerate(coming, start=1)}


def curve(x: float, y: float, right: float, end: float) -> str:
    if abs(y - end) < 0.5:
        return f"M{x:.1f} {end:.1f}H{right:.1f}"
    half = (x + right) / 2
    return f"M{x:.1f} {y:.1f}C{half:.1f} {y:.1f} {half:.1f} {end:.1f} {right:.1f} {end:.1f}"


def head(x: float, y: float) -> str:
    return f"M{x - 8:.1f} {y - 4:.1f}L{x:.1f} {y:.1f}L{x - 8:.1f} {y + 4:.1f}"


def words(made: Columns, at: Mapping[str, Place]) -> Iterator[str]:
    """All text, in the middle of its piece."""
    yield '<g fill="currentColor" stroke="none" font-family="sans-serif" text-anchor="middle">'
    for key, piece in made.pieces.items():
        found, place = texts(piece), at[key]
        for k, (text, size) in enumerate(found):
            y = place.y + LINE * (k - (len(found) - 1) / 2) + 0.36 * size
            look = f'font-size="{size:.0f}"' + (' opacity="0.75"' if piece.node and k else "")
            x = place.x + place.width / 2
            yield f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'
    yield "</g>"
