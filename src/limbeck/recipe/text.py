"""Recipes as text: YAML, overrides, and every mistake at once."""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from limbeck.errors import RecipeError, close
from limbeck.methods import NAMES
from limbeck.recipe.keywords import keywords
from limbeck.recipe.schema import Recipe
from limbeck.train.settings import Block


class Loader(yaml.SafeLoader):
    """YAML as people write it: `on` is a word, `1e-4` a number, `010` ten, no key comes twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.MarkedYAMLError(problem=f"{twice[0]!r} twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


Loader.yaml_implicit_resolvers = {}
NUMBER = r"[-+]?([0-9]+\.[0-9]*|\.?[0-9]+)([eE][-+]?[0-9]+)?|\.nan|[-+]?\.inf"
for tag, pattern, first in (
    ("bool", r"true|True|false|False", "tTfF"),
    ("null", r"~|null|", ["~", "n", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", NUMBER, "-+.0123456789"),
):
    Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)
Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


class Dumper(yaml.SafeDumper):
    """Quotes what a reader of either kind would take for a number."""


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{NUMBER})$"), None)


def parse(text: str | bytes, where: str) -> Any:
    """The value of a YAML text."""
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise RecipeError([f"{where} is not YAML: {problem}"]) from error


def read(path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, with `a.b=c` overrides.

    Raises:
        RecipeError: everything that is wrong with it, one line each.
    """
    if not path.is_file():
        raise RecipeError([f"a recipe must be a file, got {path}; limbeck new writes one"])
    raw = parse(path.read_bytes(), str(path))
    if not isinstance(raw, dict):
        raise RecipeError([f"{path} must hold keys and values, got {type(raw).__name__}"])
    for override in overrides:
        apply(raw, override)
    return validate(raw)


def apply(raw: dict[str, Any], override: str) -> None:
    """Sets `a.b.0.c=value` in nested mappings and lists."""
    key, equals, value = override.partition("=")
    if not equals:
        raise RecipeError([f"an override must be key=value, got {override!r}"])
    set_value(raw, key.split("."), parse(value, f"the value of {key}"), key)


def set_value(node: Any, path: list[str], value: Any, key: str) -> None:
    head, rest = path[0], path[1:]
    if isinstance(node, list):
        if not head.isdigit() or int(head) >= len(node):
            raise RecipeError([f"{key}: {head!r} must be an index below {len(node)}"])
        if rest:
            set_value(node[int(head)], rest, value, key)
        else:
            node[int(head)] = value
    elif isinstance(node, dict):
        if not rest:
            node[head] = value
            return
        if node.get(head) is None:
            node[head] = {}
        set_value(node[head], rest, value, key)
    else:
        raise RecipeError([f"{key}: nothing lies below {node!r}"])


def validate(raw: Mapping[str, Any]) -> Recipe:
    """The recipe that `raw` says.

    Raises:
        RecipeError: everything that is wrong with it, one line each.
    """
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        raise RecipeError(lines(error.errors(), raw)) from error


def lines(problems: Iterable[Any], raw: Mapping[str, Any]) -> list[str]:
    """A line for each mistake; of alternatives, the first that fails, or what is wrong inside."""
    found: dict[tuple[str | int, ...], Any] = {}
    for problem in problems:
        found.setdefault(keys(problem, raw), problem)
    outer = {path[:depth] for path in found for depth in range(len(path))}
    return [
        text
        for path, problem in found.items()
        if path not in outer
        for text in told(path, problem, raw)
    ]


def told(keys: tuple[str | int, ...], problem: Any, raw: Any) -> list[str]:
    """The lines of one problem: those that the recipe as a whole has found have their keys."""
    error = problem.get("ctx", {}).get("error")
    return error.problems if isinstance(error, RecipeError) else [line(keys, problem, raw)]


def keys(problem: Any, raw: Any) -> tuple[str | int, ...]:
    """Where a mistake is in what was written, without pydantic's names of alternatives."""
    path: list[str | int] = []
    node = raw
    for part in problem["loc"]:
        inside = range(len(node)) if isinstance(node, list) else node
        if isinstance(inside, range | Mapping) and part in inside:
            path, node = [*path, part], node[part]
    return (*path, problem["loc"][-1]) if problem["type"] == "missing" else tuple(path)


def line(keys: tuple[str | int, ...], problem: Any, raw: Any) -> str:
    """One mistake in words, with the key that it is about."""
    path = ".".join(map(str, keys)) or "the recipe"
    if problem["type"] == "extra_forbidden":
        known = known_at(keys, problem, raw)
        hint = close(str(keys[-1]), known)
        return f"{path}: no such key{hint}" + ("" if hint else f"; there are {known}")
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "missing":
        return f"{path}: is required"
    if problem["type"] == "value_error":
        return f"{path}: {message}"
    return f"{path}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def known_at(keys: tuple[str | int, ...], problem: Any, raw: Any) -> list[str]:
    """The keys that there are beside one that is not: a method's are those of its function."""
    block = reduce(lambda node, key: node[key], keys[:-1], raw)
    if keys[0] == "objective" and "method" in block:
        return ["method", *keywords(NAMES[block["method"]].name).model_fields]
    return keys_at(problem["loc"][:-1])


def keys_at(path: Iterable[str | int]) -> list[str]:
    """The keys of the block at `path` of a recipe."""
    block: type[BaseModel] = Recipe
    for part in path:
        found = block.model_fields.get(str(part))
        inner = [part] if found is None else [*mentioned(found), name_of(found)]
        block = next((b for b in blocks() if b.__name__ in inner), block)
    return sorted(block.model_fields)


def mentioned(field: Any) -> list[str]:
    """The names of the blocks in a type."""
    return re.findall(r"limbeck\.[\w.]+\.(\w+)", str(field.annotation))


def name_of(field: Any) -> str:
    return getattr(field.annotation, "__name__", "")


def blocks() -> list[type[BaseModel]]:
    """Every kind of block that a recipe is made of."""
    direct: list[type[BaseModel]] = list(Block.__subclasses__())
    return direct + [inner for kind in direct for inner in kind.__subclasses__()]


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML."""
    content = recipe.model_dump(mode="json")
    return yaml.dump(content, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def differences(before: Mapping[Any, Any], after: Mapping[Any, Any], path: str = "") -> list[str]:
    """The keys in which two recipes differ, with both values."""
    lines = []
    for key in sorted({*before, *after}):
        old, new, here = before.get(key), after.get(key), f"{path}{key}"
        if isinstance(old, list) and isinstance(new, list):
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if isinstance(old, dict) and isinstance(new, dict):
            lines += differences(old, new, f"{here}.")
        elif old != new:
            lines.append(f"{here}: {old!r} became {new!r}")
    return lines
