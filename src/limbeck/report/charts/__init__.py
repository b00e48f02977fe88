"""Charts as inline SVG in CSS colours; every style has a mark and a pattern of its own."""

from limbeck.report.charts.dots import Row as Row
from limbeck.report.charts.dots import bars as bars
from limbeck.report.charts.dots import dots as dots
from limbeck.report.charts.ink import STYLES as STYLES
from limbeck.report.charts.ink import TEACHER as TEACHER
from limbeck.report.charts.ink import clipped as clipped
from limbeck.report.charts.lines import Line as Line
from limbeck.report.charts.lines import lines as lines
from limbeck.report.charts.scatter import Point as Point
from limbeck.report.charts.scatter import scatter as scatter
from limbeck.report.charts.squares import heatmap as heatmap
from limbeck.report.charts.squares import reliability as reliability
