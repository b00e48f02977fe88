"""Recipes as plain data, and the one way in which a bad one is refused."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from limbeck.errors import LimbeckError, RecipeError
from limbeck.recipe import Recipe, validate

BASE: dict[str, Any] = {
    "data": {"train": "digits:train"},
    "student": {"model": "limbeck.zoo:mlp"},
    "teacher": {"model": "limbeck.zoo:small_cnn"},
    "objective": [{"loss": "truth", "weight": 0.5}, {"loss": "kl", "temperature": 4}],
}


def raw(**changes: Any) -> dict[str, Any]:
    """The base with keys set, a double underscore for each dot; None takes a key away."""
    made = copy.deepcopy(BASE)
    for path, value in changes.items():
        node: Any = made
        *above, last = path.split("__")
        for key in above:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if isinstance(node, list):
            node[int(last)] = value
        else:
            node[last] = value
    return {key: value for key, value in made.items() if value is not None}


def recipe(**changes: Any) -> Recipe:
    return validate(raw(**changes))


def problems(call: Callable[..., Any], *args: Any, **options: Any) -> list[str]:
    """What is wrong with a recipe, one line each."""
    with pytest.raises(RecipeError) as caught:
        call(*args, **options)
    assert str(caught.value).splitlines() == caught.value.problems
    return caught.value.problems


def refused(call: Callable[..., Any], *args: Any, **options: Any) -> str:
    """The one line with which a call is refused."""
    with pytest.raises(LimbeckError) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
