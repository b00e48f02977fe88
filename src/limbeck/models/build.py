"""Networks by name: `torchvision:NAME`, `timm:NAME`, `package.module:factory`."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError
from limbeck.inputs import Preprocess
from limbeck.models import libraries
from limbeck.models.factory import factory, factory_model
from limbeck.models.head import fresh_head

log = logging.getLogger("limbeck")


def build(
    spec: str,
    *,
    classes: int | None = None,
    pretrained: bool | str = False,
    fit_head: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network that `spec` names.

    Without `pretrained` it is built for `classes` outputs, its weights drawn afresh. With it the
    library loads its published weights and the head stays as published, unless `fit_head` asks for
    a fresh one of `classes` outputs, which is logged. The network is used for `pretrained` alone.

    Args:
        spec: `torchvision:resnet50`, `timm:resnet18`, or `package.module:factory`, a callable that
            gets the number of classes if it takes `num_classes` or `classes`.
        classes: the number of outputs; the model's own default where it is not given.
        pretrained: `True` for the library's default weights, or their name (torchvision's
            `IMAGENET1K_V1`, timm's tag `a1_in1k`).
        options: further keywords of the model.

    Raises:
        LimbeckError: a name or keyword that does not exist, with close matches.

    Example:
        >>> build("limbeck.zoo:mlp", classes=3, options={"hidden": 8})[-1]
        Linear(in_features=8, out_features=3, bias=True)
    """
    check_spec(spec)
    if classes is not None and classes < 1:
        raise LimbeckError(f"classes must be at least 1, got {classes}")
    library, _, name = spec.partition(":")
    keywords = dict(options or {})
    match library:
        case "torchvision":
            model = libraries.torchvision_model(name, classes, pretrained, keywords)
        case "timm":
            model = libraries.timm_model(name, classes, pretrained, keywords)
        case _:
            if pretrained:
                raise LimbeckError(f"{spec} has no published weights; give it a checkpoint")
            model = factory_model(spec, classes, keywords)
    log.info("%s: %s weights", spec, published(pretrained))
    if fit_head and pretrained:
        fresh_head(model, classes)
    return model


def published(pretrained: bool | str) -> str:
    """Where a model's first weights come from, in words."""
    if not pretrained:
        return "fresh"
    return "published" if pretrained is True else f"published {pretrained}"


def check_spec(spec: str) -> None:
    """Raises LimbeckError unless `spec` names a network."""
    library, colon, name = spec.partition(":")
    if not (library and colon and name):
        raise LimbeckError(
            f"a model must be torchvision:NAME, timm:NAME or package.module:factory, got {spec!r}"
        )
    if library in libraries.NAMES:
        libraries.check_name(library, name)
    else:
        factory(spec)


def preprocess_of(model: nn.Module, spec: str, pretrained: bool | str) -> Preprocess | None:
    """What the library says that a model wants of its images, or None.

    torchvision says it of published weights, timm of every model. The size is that of the crop.
    """
    library, _, name = spec.partition(":")
    if library == "torchvision" and pretrained:
        return libraries.torchvision_preprocess(name, pretrained)
    return libraries.timm_preprocess(model) if library == "timm" else None
