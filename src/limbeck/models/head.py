"""The last layer of a classifier, and a fresh one in its place."""

import logging
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn

from limbeck.errors import LimbeckError

log = logging.getLogger("limbeck")
PARTS = ("fc", "classifier", "heads", "head")


@runtime_checkable
class Resettable(Protocol):
    """A model that replaces its own head, as those of timm do."""

    num_classes: int
    pretrained_cfg: Mapping[str, Any]

    def reset_classifier(self, num_classes: int) -> None: ...


def fresh_head(model: nn.Module, classes: int | None) -> None:
    """Replaces the head by a fresh one of `classes` outputs, and logs which layer it was.

    timm's models do it themselves. Of others it is the last linear layer or convolution in the part
    that is called `fc`, `classifier`, `heads` or `head`, or of an `nn.Sequential`.

    Raises:
        LimbeckError: no number of classes, or no such layer.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1000))
        >>> fresh_head(net, 3)
        >>> net[-1]
        Linear(in_features=8, out_features=3, bias=True)
    """
    if classes is None:
        raise LimbeckError("a fresh head needs a number of classes, got None; give classes")
    anything: object = model
    if isinstance(anything, Resettable):
        name, before = str(anything.pretrained_cfg.get("classifier")), anything.num_classes
        anything.reset_classifier(classes)
    else:
        name, old = last_layer(model)
        before = old.weight.shape[0]
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, fresh(old, classes))
    log.info("replaced %s (%d outputs) by a fresh layer of %d", name, before, classes)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The name of a model's last layer, and the layer."""
    parts = dict(model.named_children())
    part = next((name for name in PARTS if name in parts), None)
    root = parts[part] if part else model if isinstance(model, nn.Sequential) else None
    layers = [] if root is None else list(root.named_modules(prefix=part or ""))
    for name, layer in reversed(layers):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            return name, layer
    raise LimbeckError(
        f"a fresh head goes in place of the last layer of one of {PARTS}, "
        f"but {type(model).__name__} has {list(parts)}; build the model with its classes instead"
    )


def fresh(old: nn.Linear | nn.Conv2d, classes: int) -> nn.Module:
    """A layer like `old`, newly drawn, with `classes` outputs."""
    bias, device, dtype = old.bias is not None, old.weight.device, old.weight.dtype
    if isinstance(old, nn.Linear):
        return nn.Linear(old.in_features, classes, bias=bias, device=device, dtype=dtype)
    size = (old.kernel_size[0], old.kernel_size[1])
    return nn.Conv2d(old.in_channels, classes, size, bias=bias, device=device, dtype=dtype)
