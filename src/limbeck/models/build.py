"""Networks by name: `torchvision:NAME`, `timm:NAME`, `package.module:factory`."""

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError, close, need
from limbeck.inputs import Preprocess

log = logging.getLogger("limbeck")


def build(
    spec: str,
    *,
    classes: int,
    pretrained: bool | str = False,
    fit_head: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """The network that `spec` names.

    Without `pretrained` it is built for `classes` outputs. With it the library loads its published
    weights (`True` for its default, or their name), and the head stays as published unless
    `fit_head` asks for a fresh one of `classes` outputs, which is logged.

    Args:
        spec: `torchvision:resnet50`, `timm:resnet18`, or `package.module:factory`, a callable that
            takes the number of classes as `num_classes` or `classes`.
        classes: the number of classes of the data.
        options: further keywords of the model.

    Raises:
        LimbeckError: a name or keyword that does not exist, with close matches.
    """
    check_spec(spec)
    library, _, name = spec.partition(":")
    keywords = dict(options or {})
    match library:
        case "torchvision":
            model = torchvision_model(name, classes, pretrained, keywords)
        case "timm":
            model = timm_model(name, classes, pretrained, keywords)
        case _:
            if pretrained:
                raise LimbeckError(f"{spec} has no published weights; give it a checkpoint")
            model = factory_model(spec, classes, keywords)
    if fit_head and pretrained:
        fit(model, classes)
    return model


def check_spec(spec: str) -> None:
    """Raises LimbeckError unless `spec` names a network."""
    library, colon, name = spec.partition(":")
    if not (library and colon and name):
        raise LimbeckError(
            f"a model must be torchvision:NAME, timm:NAME or package.module:factory, got {spec!r}"
        )
    if library in ("torchvision", "timm"):
        names = names_in(library)
        if name not in names:
            raise LimbeckError(f"{library} has no model {name!r}{close(name, names)}")
    else:
        factory(spec)


def names_in(library: str) -> list[str]:
    """The classifiers that a library knows."""
    if library == "timm":
        return need("timm", "vision").list_models()
    models = need("torchvision.models", "vision")
    return models.list_models(module=models)


def torchvision_model(
    name: str, classes: int, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    models = need("torchvision.models", "vision")
    if not pretrained:
        return called(models.get_model, name, weights=None, num_classes=classes, **options)
    weights = models.get_model_weights(name)
    if pretrained is True:
        return called(models.get_model, name, weights=weights.DEFAULT, **options)
    if pretrained not in weights.__members__:
        known = list(weights.__members__)
        raise LimbeckError(f"{name} has weights {known}, got {pretrained!r}")
    return called(models.get_model, name, weights=weights[pretrained], **options)


def timm_model(
    name: str, classes: int, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    timm = need("timm", "vision")
    if not pretrained:
        return called(timm.create_model, name, num_classes=classes, **options)
    tagged = name if pretrained is True else f"{name.partition('.')[0]}.{pretrained}"
    return called(timm.create_model, tagged, pretrained=True, **options)


def called(make: Callable[..., nn.Module], *args: Any, **options: Any) -> nn.Module:
    """A library's model; its own complaint about a keyword in one line."""
    try:
        return make(*args, **options)
    except TypeError as error:
        raise LimbeckError(f"{args[0]}: {error}") from error


def factory(spec: str) -> Callable[..., nn.Module]:
    """What `package.module:name` points to."""
    module, _, name = spec.partition(":")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise LimbeckError(f"{spec!r} must be package.module:factory, but {error}") from error
    if not hasattr(found, name):
        raise LimbeckError(f"{module} has no {name!r}{close(name, vars(found))}")
    return getattr(found, name)


def factory_model(spec: str, classes: int, options: dict[str, Any]) -> nn.Module:
    """Your own network; the number of classes goes to `num_classes` or `classes`."""
    make = factory(spec)
    parameters = inspect.signature(make).parameters
    for name in ("num_classes", "classes"):
        if name in parameters:
            options = {name: classes, **options}
    for name in options:
        if name not in parameters:
            raise LimbeckError(
                f"{spec} takes {list(parameters)}, got {name!r}{close(name, parameters)}"
            )
    model = make(**options)
    if not isinstance(model, nn.Module):
        raise LimbeckError(f"{spec} must return an nn.Module, got {type(model).__name__}")
    return model


def fit(model: nn.Module, classes: int) -> None:
    """Replaces the last linear layer by a fresh one of `classes` outputs, and says so."""
    linear = [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise LimbeckError(f"fit_head needs a linear last layer, {type(model).__name__} has none")
    name, old = linear[-1]
    parent, _, leaf = name.rpartition(".")
    fresh = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    setattr(model.get_submodule(parent), leaf, fresh)
    log.info("replaced %s (%d outputs) by a fresh layer of %d", name, old.out_features, classes)


def preprocess_of(model: nn.Module, spec: str, pretrained: bool | str) -> Preprocess | None:
    """How published weights want their images, where the library says so."""
    library, _, name = spec.partition(":")
    if library == "torchvision" and pretrained:
        weights = need("torchvision.models", "vision").get_model_weights(name)
        transforms = (weights.DEFAULT if pretrained is True else weights[pretrained]).transforms()
        return Preprocess(tuple(transforms.mean), tuple(transforms.std), transforms.crop_size[0])
    if library == "timm" and pretrained:
        config = need("timm.data", "vision").resolve_model_data_config(model)
        return Preprocess(config["mean"], config["std"], config["input_size"][1])
    return None
