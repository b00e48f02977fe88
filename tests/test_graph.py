"""The drawing of a graph: nothing overlaps, everything fits, and it says what it shows."""

import re
from importlib.resources import files
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import ImageFont

from limbeck.cli import SCHEMES
from limbeck.graph import Arrow, Graph, Node, drawing, lines
from limbeck.graph.layers import SAID, columns, ranks, unrolled
from limbeck.graph.letters import width
from limbeck.graph.places import APART, PAD, Place, places, stacked, texts
from limbeck.recipe import graph_of, graph_of_text, read

RECIPES = Path(__file__).parents[1] / "recipes"


def new(scheme: str) -> Graph:
    return graph_of_text((files("limbeck.recipe") / SCHEMES[scheme]).read_text(encoding="utf-8"))


def mutual(count: int) -> Graph:
    """Students that all teach each other, and a teacher of them all."""
    names = [f"student {k}" for k in range(count)]
    each = [Arrow(a, b, ("kl",)) for a in names for b in names if a != b]
    taught = [Arrow("teacher", name, ("kl T=4", "a hint of the layer")) for name in names]
    nodes = [Node("teacher", "network"), *(Node(name, "student", "mlp") for name in names)]
    return Graph(tuple(nodes), (*each, *taught))


def dense(count: int) -> Graph:
    """Stages that are taught by all before them."""
    names = [f"stage {k}" for k in range(count)]
    pairs = combinations(range(count), 2)
    arrows = [Arrow(names[a], names[b], (f"kl · 1/{b}",)) for a, b in pairs]
    labels = [Arrow("labels", name, ("truth",), teaches=False) for name in names]
    nodes = [Node("labels", "labels"), *(Node(name, "student", "mlp") for name in names)]
    return Graph(tuple(nodes), (*arrows, *labels))


GRAPHS = {
    **{scheme: new(scheme) for scheme in SCHEMES},
    **{path.stem: graph_of(read(path)) for path in sorted(RECIPES.rglob("*.yaml"))},
    **{f"mutual of {n}": mutual(n) for n in (2, 3, 4)},
    **{f"dense of {n}": dense(n) for n in (2, 4, 6)},
    "alone": Graph((Node("a", "network"), Node("b & <c>", "student", "W" * 30)), ()),
    "nothing": Graph((), ()),
}
every = pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)


def elements(graph: Graph, tag: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(drawing(graph)).iter() if each.tag == tag]


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names]


def box(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a rectangle."""
    x, y, wide, high = numbers(element, "x", "y", "width", "height")
    return x, y, x + wide, y + high


def extent(element: ElementTree.Element) -> tuple[float, float, float, float]:
    """Those of a line of text, of which half is left of its middle."""
    x, y, size = numbers(element, "x", "y", "font-size")
    half = width(element.text or "", size) / 2
    return x - half, y - 0.8 * size, x + half, y + 0.25 * size


def meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def inside(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] >= b[0] and a[1] >= b[1] and a[2] <= b[2] and a[3] <= b[3]


def segments(graph: Graph) -> list[list[tuple[float, float]]]:
    """The points of all lines, curves as many short ones; without the heads of arrows."""
    found = []
    for path in elements(graph, "path"):
        for text in re.findall(r"M[^M]*", path.attrib["d"]):
            if "L" not in text:
                found.append(points(text))
    return found


def points(text: str) -> list[tuple[float, float]]:
    values = [float(number) for number in re.findall(r"-?[\d.]+", text)]
    if "H" in text:
        x, y, right = values
        return [(x + (right - x) * k / 20, y) for k in range(21)]
    x0, y0, x1, y1, x2, y2, x3, y3 = values
    steps = [k / 20 for k in range(21)]
    return [(bezier(x0, x1, x2, x3, t), bezier(y0, y1, y2, y3, t)) for t in steps]


def bezier(a: float, b: float, c: float, d: float, t: float) -> float:
    return a * (1 - t) ** 3 + 3 * b * t * (1 - t) ** 2 + 3 * c * t**2 * (1 - t) + d * t**3


# what is drawn


@every
def test_a_drawing_is_xml_that_says_what_it_shows(graph: Graph) -> None:
    root = ElementTree.fromstring(drawing(graph))
    assert root.attrib["role"] == "img"
    assert root.attrib["stroke"] == "currentColor"
    for arrow in graph.arrows:
        assert f"{arrow.start} to {arrow.end}" in root.attrib["aria-label"]
        assert all(term in root.attrib["aria-label"] for term in arrow.terms)


@every
def test_no_two_boxes_overlap_and_all_are_in_the_picture(graph: Graph) -> None:
    _, _, right, bottom = map(
        float, ElementTree.fromstring(drawing(graph)).attrib["viewBox"].split()
    )
    boxes = [box(each) for each in elements(graph, "rect")]
    assert not [pair for pair in combinations(boxes, 2) if meet(*pair)]
    seen = (0, 0, right + 0.5, bottom + 0.5)
    assert all(inside(each, seen) for each in [*boxes, *map(extent, elements(graph, "text"))])


@every
def test_text_is_inside_a_box_or_touches_none_and_no_other_text(graph: Graph) -> None:
    boxes = [box(each) for each in elements(graph, "rect")]
    words = [extent(each) for each in elements(graph, "text")]
    for each in words:
        touched = [rectangle for rectangle in boxes if meet(each, rectangle)]
        assert len(touched) <= 1
        assert all(inside(each, rectangle) for rectangle in touched)
    assert not [pair for pair in combinations(words, 2) if meet(*pair)]


@every
def test_every_box_has_its_name_and_every_arrow_its_words(graph: Graph) -> None:
    found = [element.text for element in elements(graph, "text")]
    names = [node.name.removeprefix(SAID) for node in unrolled(graph).nodes]
    assert len(elements(graph, "rect")) == len(names)
    assert {*names} <= {*found}
    assert {term for arrow in graph.arrows for term in arrow.terms} <= {*found}


@every
def test_no_line_runs_through_a_box_or_through_words(graph: Graph) -> None:
    shapes = [box(each) for each in elements(graph, "rect")]
    shapes += [extent(each) for each in elements(graph, "text")]
    for line in segments(graph):
        for x, y in line:
            for left, top, right, bottom in shapes:
                assert not (left + 0.2 < x < right - 0.2 and top < y < bottom)


@every
def test_a_head_ends_each_arrow_at_a_box(graph: Graph) -> None:
    """One head for each line that comes to a box; lines of the same words come as one."""
    ends = {(arrow.start, arrow.terms, arrow.teaches, arrow.end) for arrow in graph.arrows}
    lefts = [box(each)[0] for each in elements(graph, "rect")]
    heads = [
        float(x)
        for path in elements(graph, "path")
        for x in re.findall(r"L([\d.]+)", path.attrib["d"])
    ]
    tips = heads[::2]
    assert len(tips) == len(ends)
    assert all(min(abs(tip - left) for left in lefts) < 0.2 for tip in tips)


def test_lines_that_teach_are_dashed_and_others_are_not() -> None:
    teaching = Graph((Node("a", "network"), Node("b", "student")), (Arrow("a", "b"),))
    making = Graph(teaching.nodes, (Arrow("a", "b", teaches=False),))
    (dashed, _), (solid, _) = elements(teaching, "path"), elements(making, "path")
    assert dashed.attrib["d"] == solid.attrib["d"]
    assert "stroke-dasharray" in dashed.attrib
    assert "stroke-dasharray" not in solid.attrib


def test_networks_have_corners_and_what_is_said_is_round() -> None:
    kinds: tuple[Any, ...] = ("network", "student", "labels", "answer", "part")
    nodes = tuple(Node(kind, kind) for kind in kinds)
    rounds = [element.attrib["rx"] for element in elements(Graph(nodes, ()), "rect")]
    assert rounds == ["4", "4", "14", "14", "14"]


def test_what_others_named_is_escaped() -> None:
    graph = Graph(
        (Node('"<script>&', "network"), Node("b", "student")), (Arrow('"<script>&', "b"),)
    )
    assert "<script" not in drawing(graph)
    assert elements(graph, "text")[0].text == '"<script>&'


def test_words_are_not_wider_than_the_room_that_they_get() -> None:
    font = ImageFont.load_default(size=50)
    words = {"illicit little fjord", "MOMMY WWW 100 %"}
    for graph in GRAPHS.values():
        words |= {text for node in graph.nodes for text in (node.name, node.note)}
        words |= {term for arrow in graph.arrows for term in arrow.terms}
    assert [text for text in words if font.getlength(text) > width(text, 50)] == []


# columns


@every
def test_everything_goes_from_left_to_right(graph: Graph) -> None:
    made = columns(graph)
    for start, end in made.links:
        assert made.pieces[end].column == made.pieces[start].column + 1
    assert all(made.column(number) for number in range(made.count))


@every
def test_pieces_are_apart(graph: Graph) -> None:
    made = columns(graph)
    at = places(made)
    for number in range(made.count):
        column = sorted((at[key] for key in made.column(number)), key=lambda place: place.y)
        assert all(
            below.top - above.top - above.height > APART - 1e-6 for above, below in pairwise(column)
        )
    for key, piece in made.pieces.items():
        needed = max((width(text, size) for text, size in texts(piece)), default=-2 * PAD)
        assert at[key].width >= needed + 2 * PAD - 1e-6


def test_a_learner_that_teaches_those_who_teach_it_stands_twice() -> None:
    student, slow = Node("student", "student"), Node("slow", "network")
    arrows = (Arrow("student", "slow", teaches=False), Arrow("slow", "student", ("kl",)))
    made = unrolled(Graph((student, slow), arrows))
    assert [node.name for node in made.nodes] == [f"{SAID}student", "student", "slow"]
    assert ranks(made) == {f"{SAID}student": 0, "slow": 1, "student": 2}
    one_way = Graph((student, slow), arrows[1:])
    assert unrolled(one_way) == one_way


def test_an_answer_that_is_taught_what_is_made_of_it_stands_twice_too() -> None:
    names = ("branch", "part"), ("student", "answer"), ("slow", "network")
    nodes = tuple(Node(name, kind) for name, kind in names)
    made = [Arrow("branch", "student", teaches=False), Arrow("student", "slow", teaches=False)]
    taught = [Arrow("student", "branch", ("one",)), Arrow("slow", "student", ("kl",))]
    graph = Graph(nodes, (*made, *taught))
    rank = ranks(unrolled(graph))
    assert [rank[name] for name in ("slow", "student", "branch")] == [1, 2, 3]
    assert rank[f"{SAID}student"] == 0
    assert len(elements(graph, "rect")) == 5


def test_who_gets_nothing_stands_beside_whom_it_gives_to() -> None:
    nodes = [Node(name, "network") for name in ("deep", "both", "labels", "student")]
    arrows = [Arrow("deep", "both"), Arrow("both", "student"), Arrow("labels", "student")]
    assert ranks(Graph(tuple(nodes), tuple(arrows)))["labels"] == 1


def test_the_same_words_are_written_once() -> None:
    graph = dense(4)
    found = [element.text for element in elements(graph, "text")]
    assert found.count("truth") == 1
    assert found.count("kl · 1/3") == 3


def test_pieces_are_as_near_as_can_be_to_where_they_belong() -> None:
    heights = dict.fromkeys("abc", 8.0)
    apart = stacked("abc", {"a": 0.0, "b": 100.0, "c": 300.0}, heights)
    assert apart == {"a": 0.0, "b": 100.0, "c": 300.0}
    together = stacked("abc", dict.fromkeys("abc", 50.0), heights)
    assert together == {"a": 30.0, "b": 50.0, "c": 70.0}


def test_a_place_has_edges() -> None:
    place = Place(1.0, 10.0, 4.0, 6.0)
    assert (place.right, place.top) == (5.0, 7.0)


# plain characters


@every
def test_the_text_is_aligned_and_has_a_line_for_each_arrow(graph: Graph) -> None:
    written = [line for line in lines(graph).splitlines() if "-> " in line]
    assert len(written) == len(graph.arrows)
    assert len({line.index("> ") for line in written}) <= 1
    for line, arrow in zip(written, graph.arrows, strict=True):
        assert line.startswith(arrow.start)
        assert line.partition("> ")[2].startswith(arrow.end)
        assert ", ".join(arrow.terms) in line


def test_a_note_stands_where_its_node_is_met_first() -> None:
    nodes = Node("a", "network", "resnet50"), Node("b", "student", "mlp"), Node("c", "network")
    told = lines(Graph(nodes, (Arrow("a", "b", ("kl",)), Arrow("a", "b", (), teaches=False))))
    assert told.splitlines() == [
        "a (resnet50) --- kl --> b (mlp)",
        "a --------------------> b",
        "c: teaches nobody",
    ]
