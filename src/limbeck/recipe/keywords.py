"""The keywords of a method as a recipe writes them, read from the signature of its function.

Numbers that may follow a schedule are numbers or ramps, a projector is a name, a module of the
teacher is its path. What has no such form, like a tensor, is no keyword of a recipe.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, reduce
from operator import or_
from types import GenericAlias, NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, Field, create_model
from torch import nn

from limbeck import methods
from limbeck.balance import Balance
from limbeck.errors import LimbeckError, close
from limbeck.recipe.names import projector
from limbeck.recipe.ramps import Ramp
from limbeck.recipe.setting import Place
from limbeck.schedules import Schedule
from limbeck.train.settings import Block

PLAIN = (str, int, float, bool, NoneType)
COUNTED = ("samples", "exits", "branches")  # of images, of the student: known to the recipe
NOT_HERE = {
    "jacobian": "both of its models are wrapped",
    "simkd": "the network to ship is not the student alone",
}
Projector = Annotated[str, AfterValidator(projector)]


def method(name: str) -> Callable[..., Any]:
    """The function of a method."""
    return getattr(methods, name)


def named(name: str) -> str:
    """The name of a method that has this one, or this alias.

    Raises:
        LimbeckError: no such method, or one that a recipe cannot have.
    """
    if name not in methods.NAMES:
        known = [row.name for row in methods.ROWS]
        raise LimbeckError(
            f"method must be one of {known}, got {name!r}{close(name, methods.NAMES)}"
        )
    own = methods.NAMES[name].name
    needed = [p.name for p in parameters(own) if p.default is p.empty]
    objects = [key for key in needed if key not in keywords(own).model_fields]
    reason = NOT_HERE.get(own) or (f"{objects[0]} is a Python object" if objects else "")
    if reason:
        raise LimbeckError(
            f"a recipe cannot have {own}, since {reason}; call limbeck.methods.{own} in Python"
        )
    return own


def parameters(name: str) -> list[inspect.Parameter]:
    """The arguments of a method."""
    return list(inspect.signature(method(name)).parameters.values())


@cache
def keywords(name: str) -> type[Block]:
    """What a recipe may say of a method, as a block whose fields are the function's arguments."""
    kinds = get_type_hints(method(name))
    said = {p.name: written(kinds[p.name], f"{name}.{p.name}") for p in parameters(name)}
    fields: Mapping[str, Any] = {
        p.name: (said[p.name], default(p)) for p in parameters(name) if said[p.name] is not None
    }
    return create_model(name, __base__=Block, **fields)


def default(parameter: inspect.Parameter) -> Any:
    """Whether a keyword may be left out; what it is then is for the function, or for the build."""
    required = parameter.default is parameter.empty and parameter.name not in COUNTED
    return Field() if required else Field(None, validate_default=False)


def written(kind: Any, key: str) -> Any:
    """What a recipe writes for an argument of this kind; None where it can write nothing."""
    if isinstance(kind, type) and issubclass(kind, nn.Module):
        ours = not kind.__module__.startswith("torch.nn.")
        return None if ours else Annotated[str, AfterValidator(lambda path: Place(key, path, kind))]
    try:
        return plain(kind)
    except TypeError:
        return None


def plain(kind: Any) -> Any:
    """What YAML has for a kind.

    >>> from limbeck.dials import Weight
    >>> plain(Weight)
    float | limbeck.recipe.ramps.Ramp
    >>> plain(Sequence[tuple[str, str]])
    list[tuple[str, str]]

    Raises:
        TypeError: it has nothing for this one.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if kind in PLAIN or origin is Literal:
        return kind
    if kind is Schedule:
        return Ramp
    if origin in (Union, UnionType):
        return either(inner)
    if origin is tuple:
        return GenericAlias(tuple, tuple(plain(each) for each in inner))
    if origin in (Sequence, Iterable, list):
        return GenericAlias(list, (plain(inner[0]),))
    raise TypeError(kind)


def either(kinds: Sequence[Any]) -> Any:
    """What YAML has for one of several kinds; a projector goes by its name alone."""
    if any(get_origin(kind) is Callable for kind in kinds):
        return Projector
    return reduce(or_, (plain(kind) for kind in kinds if kind is not Balance))
