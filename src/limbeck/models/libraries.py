"""The models of torchvision and timm, through their own loaders."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from limbeck.errors import LimbeckError, close, need
from limbeck.inputs import Preprocess

NAMES = ("torchvision", "timm")
OURS = ("num_classes", "weights", "pretrained")


def check_name(library: str, name: str) -> None:
    """Raises LimbeckError unless the library has a classifier of this name."""
    names = names_in(library)
    plain = name.partition(".")[0] if library == "timm" else name
    if plain not in names:
        raise LimbeckError(f"{library} has no model {name!r}{close(name, names)}")


def names_in(library: str) -> list[str]:
    """The classifiers that a library knows."""
    if library == "timm":
        return need("timm", "vision").list_models()
    models = need("torchvision.models", "vision")
    return models.list_models(module=models)


def torchvision_model(
    name: str, classes: int | None, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    """A torchvision classifier; with `pretrained` it has the head of its weights."""
    models = need("torchvision.models", "vision")
    check_options(name, models.get_model_builder(name), options)
    if pretrained:
        return called(models.get_model, name, options, weights=weights_of(name, pretrained))
    return called(models.get_model, name, options, weights=None, **sized(classes))


def check_options(name: str, builder: Callable[..., Any], options: dict[str, Any]) -> None:
    """Raises LimbeckError for a keyword that a model lacks; some would swallow it in silence."""
    made = inspect.signature(builder).return_annotation
    named = inspect.signature(made).parameters.values()
    known = [p.name for p in named if p.kind is not inspect.Parameter.VAR_KEYWORD]
    for option in options:
        if option not in known and option not in OURS:
            raise LimbeckError(f"{name} takes {known}, got {option!r}{close(option, known)}")


def weights_of(name: str, pretrained: bool | str) -> Any:
    """The entry of torchvision's weights enum for a model."""
    known = need("torchvision.models", "vision").get_model_weights(name)
    if pretrained is True:
        return known.DEFAULT
    if pretrained not in known.__members__:
        raise LimbeckError(
            f"pretrained must be true or one of {[entry.name for entry in known]} for "
            f"torchvision:{name}, got {pretrained!r}{close(str(pretrained), known.__members__)}"
        )
    return known[pretrained]


def torchvision_preprocess(name: str, pretrained: bool | str) -> Preprocess:
    """The normalisation and crop that published weights were judged with."""
    transforms = weights_of(name, pretrained).transforms()
    return Preprocess(tuple(transforms.mean), tuple(transforms.std), transforms.crop_size[0])


def timm_model(
    name: str, classes: int | None, pretrained: bool | str, options: dict[str, Any]
) -> nn.Module:
    """A timm classifier; with `pretrained` it has the head of its weights."""
    create = need("timm", "vision").create_model
    if pretrained:
        return called(create, tagged(name, pretrained), options, pretrained=True)
    return called(create, name, options, **sized(classes))


def tagged(name: str, pretrained: bool | str) -> str:
    """timm's name for a model with certain weights: `resnet18.a1_in1k`."""
    plain, _, own = name.partition(".")
    tag = own if pretrained is True else str(pretrained)
    if not tag:
        return plain
    known = [full.partition(".")[2] for full in need("timm", "vision").list_pretrained(plain)]
    if tag not in known:
        raise LimbeckError(
            f"pretrained must be true or one of {known} for timm:{plain}, "
            f"got {tag!r}{close(tag, known)}"
        )
    return f"{plain}.{tag}"


def timm_preprocess(model: nn.Module) -> Preprocess:
    """The normalisation and input size in a timm model's configuration."""
    config = need("timm.data", "vision").resolve_model_data_config(model)
    return Preprocess(tuple(config["mean"]), tuple(config["std"]), tuple(config["input_size"][1:]))


def sized(classes: int | None) -> dict[str, int]:
    return {} if classes is None else {"num_classes": classes}


def called(
    make: Callable[..., nn.Module], name: str, options: dict[str, Any], **ours: Any
) -> nn.Module:
    """A library's model; its own complaint in one line."""
    taken = [key for key in OURS if key in options]
    if taken:
        raise LimbeckError(f"options of {name} must leave {taken[0]} to classes and pretrained")
    try:
        return make(name, **ours, **options)
    except (TypeError, ValueError, OSError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise LimbeckError(f"{name} could not be built: {reason}") from error
