"""Batch norms that become part of the convolutions before them."""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.fx import Graph, Tracer
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbeck.modes import evaluating

log = logging.getLogger("limbeck")
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
LIMIT = 1e-3  # standard deviations of the logits; rounding is far below, a wrong pair far above


def fold(model: nn.Module, inputs: Tensor) -> dict[str, str]:
    """Folds each batch norm into the convolution whose output it alone reads, for eval mode.

    With g = gamma / sqrt(var + eps), the norm of W x + b is (g W) x + g (b - mean) + beta, a
    convolution again. All paths stay: it takes the place of the convolution, and what was the norm
    hands on what it gets. The parts of a model that cannot be traced are looked at one by one; what
    does not give the model's logits of `inputs` is undone. Both are logged.

    Returns:
        The path of each folded convolution, with that of its norm.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
        >>> fold(net, torch.rand(1, 1, 4, 4))
        {'0': '1'}
    """
    with torch.no_grad(), evaluating(model):
        exact = model(inputs)
        places = dict(pairs(model))
        before = {path: model.get_submodule(path) for pair in places.items() for path in pair}
        for conv, norm in places.items():
            model.set_submodule(conv, fused(before[conv], before[norm]))
            model.set_submodule(norm, after(before[norm]))
        error = float((model(inputs) - exact).abs().max() / exact.std().clamp(min=1e-12))
    if not error <= LIMIT:
        for path, module in before.items():
            model.set_submodule(path, module)
        log.warning("batch norms stay: folding them moves the logits by %.2g deviations", error)
        return {}
    rest = sum(isinstance(module, NORMS) for module in model.modules())
    log.info("%d batch norms folded into convolutions, %d stay", len(places), rest)
    return places


def pairs(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The paths of convolutions with those of the norms that alone read them."""
    try:
        graph = Whole().trace(model)
    except Exception as error:  # whatever a model's own code does with a stand-in for its inputs
        if not isinstance(model, nn.ModuleList | nn.ModuleDict):
            what = str(error).partition("\n")[0]
            log.info("%s cannot be traced: %s; looking at its parts", prefix or "the model", what)
        for name, part in model.named_children():
            if any(part.children()):
                yield from pairs(part, f"{prefix}{name}.")
        return
    for conv, norm in adjacent(model, graph):
        yield prefix + conv, prefix + norm


def adjacent(model: nn.Module, graph: Graph) -> Iterator[tuple[str, str]]:
    """The pairs of a traced model; a module that is called twice, or shared, is in none."""
    calls = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    owners = [id(module) for _, module in model.named_modules(remove_duplicate=False)]
    for node in graph.nodes:
        before = next(iter(node.all_input_nodes), None)
        if node.op != "call_module" or before is None or before.op != "call_module":
            continue
        paths = str(before.target), str(node.target)
        conv, norm = map(model.get_submodule, paths)
        once = len(before.users) == 1 and all(calls.count(path) == 1 for path in paths)
        once = once and all(owners.count(id(module)) == 1 for module in (conv, norm))
        kinds = type(conv) in CONVOLUTIONS and (type(norm) in NORMS or acts(norm))
        if once and kinds and getattr(norm, "running_mean", None) is not None:
            yield paths


def fused(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """A convolution that does what both did."""
    assert isinstance(conv, CONVOLUTIONS)
    assert isinstance(norm, NORMS)
    return fuse_conv_bn_eval(conv, norm)


class Whole(Tracer):
    """Looks into no norm."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, NORMS) or super().is_leaf_module(m, module_qualified_name)


def acts(module: nn.Module) -> bool:
    """Whether it is a norm with an activation behind it, as timm has them."""
    parts = [name for name, _ in module.named_children()]
    return isinstance(module, NORMS) and parts == ["drop", "act"]


def after(norm: nn.Module) -> nn.Module:
    """What is left of a norm without its normalisation."""
    return nn.Sequential(*norm.children()) if acts(norm) else nn.Identity()
