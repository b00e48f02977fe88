"""A graph in plain characters."""

from limbeck.graph.nodes import Graph, Node

NOBODY = "teaches nobody"


def lines(graph: Graph) -> str:
    """A line for each arrow; what a node is stands where it is met first.

    >>> from limbeck.graph import Arrow
    >>> labels, teacher = Node("labels", "labels"), Node("teacher", "network", "resnet50")
    >>> student = Node("student", "student", "mlp")
    >>> truth = Arrow("labels", "student", ("truth · 0.1",), teaches=False)
    >>> kl = Arrow("teacher", "student", ("kl T=4 · 0.9", "hint[layer3]"))
    >>> print(lines(Graph((labels, teacher, student), (truth, kl))))
    labels --------------- truth · 0.1 -----------------> student (mlp)
    teacher (resnet50) --- kl T=4 · 0.9, hint[layer3] --> student
    """
    met = set[str]()
    rows = []
    for arrow in graph.arrows:
        start, end = (told(graph.node(name), met) for name in (arrow.start, arrow.end))
        rows.append((start, ", ".join(arrow.terms), end))
    left = max((len(start) for start, _, _ in rows), default=0)
    middle = max((len(terms) for _, terms, _ in rows), default=0)
    shafts = [
        f"{ruled(start, left + 4)}{shaft(terms, middle + 4)}> {end}" for start, terms, end in rows
    ]
    return "\n".join([*shafts, *(f"{told(node, met)}: {NOBODY}" for node in graph.apart())])


def told(node: Node, met: set[str]) -> str:
    """A node's name, and when it is met first its note."""
    new = node.name not in met
    met.add(node.name)
    return f"{node.name} ({node.note})" if new and node.note else node.name


def ruled(start: str, width: int) -> str:
    return f"{start} ".ljust(width, "-")


def shaft(terms: str, width: int) -> str:
    return f" {terms} ".ljust(width, "-") if terms else "-" * width
