"""A network's forward in two pieces: up to a module, and from it on."""

import functools
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor, fx, nn

from limbeck.errors import LimbeckError, close
from limbeck.taps import modules_of


class Piece:
    """Some of a forward as a function of any network with these modules, and of one tensor.

    `parts` are the paths of the modules and parameters that it uses.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self.parts = [str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")]
        code = graph.python_code("self")
        self.source, self.names = code.src, code.globals

    def __call__(self, network: nn.Module, x: Tensor) -> Tensor:
        return self.function(network, x)

    @functools.cached_property
    def function(self) -> Any:
        made = dict(self.names)
        exec(self.source, made)
        return made["forward"]

    def __deepcopy__(self, memo: Any) -> "Piece":
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Modules by name, and the function as its source."""
        found = self.names.items()
        modules = {key: m.__name__ for key, m in found if isinstance(m, ModuleType)}
        names = {key: value for key, value in found if key not in modules}
        return {"parts": self.parts, "source": self.source, "names": names, "modules": modules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modules = {key: import_module(name) for key, name in state["modules"].items()}
        self.parts, self.source = state["parts"], state["source"]
        self.names = state["names"] | modules


class Outer(fx.Tracer):
    """Traces what contains a module; whatever does not is called as it is."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not self.at.startswith(f"{module_qualified_name}.")


def split(network: nn.Module, at: str) -> tuple[Piece, Piece]:
    """The pieces before and from the module at a path on.

    Raises:
        LimbeckError: no such module, a forward that cannot be read or that goes past the module.
    """
    paths = [path for path in modules_of(network) if path]
    if at not in paths:
        raise LimbeckError(f"no module {at!r}{close(at, paths)}")
    graph = traced(network, at)
    cuts = [node for node in graph.nodes if node.op == "call_module" and node.target == at]
    if len(cuts) != 1 or len(cuts[0].all_input_nodes) != 1:
        raise LimbeckError(f"{at!r} must run once in a forward, on one tensor")
    (value,), after = cuts[0].all_input_nodes, following(cuts[0])
    early = [node for node in graph.nodes if node not in after and node.op != "get_attr"]
    past = [node for node in early if node is not value and after & {*node.users}]
    output = next(node for node in graph.nodes if node.op == "output")
    if past or output not in after or value not in early:
        what = past[0].name if past else "the output"
        raise LimbeckError(f"its forward goes past {at!r}: {what} is read behind it too")
    before = leading(value)
    return Piece(copied(graph, before, value)), Piece(rest(graph, after, value))


def traced(network: nn.Module, at: str) -> fx.Graph:
    """The forward outside of the modules that it is made of; raises LimbeckError if it has none."""
    modes, graphs = [(m, m.training) for m in network.modules()], list[fx.Graph]()
    try:
        for mode in (True, False):
            network.train(mode)
            graphs.append(Outer(at).trace(network))
    except Exception as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise LimbeckError(f"its forward cannot be read: {reason}") from error
    finally:
        for module, training in modes:
            module.training = training
    if len({graph.python_code("self").src for graph in graphs}) > 1:
        raise LimbeckError(f"its forward outside of {at!r} is another in training")
    return graphs[0]


def following(node: fx.Node) -> set[fx.Node]:
    """The node and all that depend on it."""
    found, fresh = {node}, [node]
    while fresh:
        fresh = [user for each in fresh for user in each.users if user not in found]
        found |= {*fresh}
    return found


def leading(node: fx.Node) -> set[fx.Node]:
    """The node and all that it depends on."""
    found, fresh = {node}, [node]
    while fresh:
        fresh = [need for each in fresh for need in each.all_input_nodes if need not in found]
        found |= {*fresh}
    return found


def copied(graph: fx.Graph, nodes: Iterable[fx.Node], value: fx.Node) -> fx.Graph:
    """A graph of some nodes that returns a value."""
    kept, made, copies = {*nodes}, fx.Graph(), dict[fx.Node, fx.Node]()
    for node in graph.nodes:
        if node in kept or node.op == "placeholder":
            copies[node] = made.node_copy(node, copies.__getitem__)
    made.output(copies[value])
    return made


def rest(graph: fx.Graph, nodes: set[fx.Node], value: fx.Node) -> fx.Graph:
    """A graph of the nodes behind a value, which it takes."""
    made = fx.Graph()
    copies = {value: made.placeholder("features")}
    for node in graph.nodes:
        if node in nodes or (node.op == "get_attr" and nodes & {*node.users}):
            copies[node] = made.node_copy(node, copies.__getitem__)
    return made
