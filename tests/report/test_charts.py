"""Drawings: scales, ticks, and names that do not collide."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from limbeck.report import charts
from limbeck.report.charts.ink import spread, width
from limbeck.report.charts.scale import Scale, tick_texts, ticks
from limbeck.report.charts.scatter import KEY, overlap, placed


def test_long_curves_are_averaged_down() -> None:
    points = [(float(step), float(step % 2)) for step in range(10_001)]
    drawing = charts.lines([charts.Line("loss", points, 0)], "step", "loss")
    (path,) = re.findall(r'<polyline[^>]*points="([^"]*)"', drawing)
    assert 200 < len(path.split()) <= 300


@pytest.mark.parametrize("count", [2, 5, 9])
@pytest.mark.parametrize("height", [40.0, 130.0, 218.0])
def test_names_in_a_scatter_plot_do_not_collide(count: int, height: float) -> None:
    names = [f"arm number {index}" for index in range(count)]
    points = [(120.0 + index % 2, height + index) for index in range(count)]
    room = (42.0, 22.0, 438.0, 228.0)
    boxes = placed(points, names, room)
    for index, box in enumerate(boxes):
        assert box[2] - box[0] == pytest.approx(width(names[index]) + KEY)
        assert room[0] <= box[0] < box[2] <= room[2]
        assert room[1] <= box[1] < box[3] <= room[3]
        assert all(overlap(box, other) == 0 for other in boxes[:index])


def test_names_at_the_ends_of_lines_keep_their_distance_and_order() -> None:
    places = spread([200, 199, 198, 30], gap=15, low=20, high=200)
    ordered = sorted(places)
    assert all(b - a >= 15 for a, b in pairwise(ordered))
    assert places[0] > places[1] > places[2] > places[3]
    assert max(places) <= 200


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.2, 7.9), (86.1, 86.9), (1e-5, 9e-5), (0, 1e6)]
)
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 4 <= len(found) <= 8
    assert low - 1e-12 <= found[0] < found[-1] <= high + 1e-12
    texts = tick_texts(found)
    assert len(set(texts)) == len(texts)
    assert max(map(len, texts)) <= 7


def test_a_logarithmic_scale_gives_every_decade_the_same_room() -> None:
    scale = Scale(1e3, 1e6, 0, 300, log=True)
    assert [scale(value) for value in (1e3, 1e4, 1e5, 1e6)] == pytest.approx([0, 100, 200, 300])
    assert scale.ticks() == [1e3, 1e4, 1e5, 1e6]
    assert Scale(60, 90, 0, 300, log=True).ticks() == [60, 65, 70, 75, 80, 85, 90]


def test_equal_values_still_have_a_scale() -> None:
    point = charts.Point("only", 5.0, 90.0, 0)
    row = charts.Row("only", 0.0, "+0.00", 0)
    for drawing in (
        charts.scatter([point, point], "parameters", "top-1, %"),
        charts.lines([charts.Line("flat", [(1.0, 2.0)], 0)], "step", "loss"),
        charts.dots([row], "points", zero=True),
        charts.bars([row], "seconds"),
    ):
        assert "nan" not in drawing
        assert ElementTree.fromstring(drawing).tag == "svg"
