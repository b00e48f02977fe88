"""Who teaches whom, as nodes and arrows: in a terminal, and as a drawing."""

from limbeck.graph.drawing import drawing as drawing
from limbeck.graph.lines import lines as lines
from limbeck.graph.nodes import Arrow as Arrow
from limbeck.graph.nodes import Graph as Graph
from limbeck.graph.nodes import Node as Node
