"""Keys of a recipe's file changed in place: comments, order and layout stay."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from limbeck.checkpoint import atomic
from limbeck.errors import LimbeckError
from limbeck.recipe.text import Loader, parse, set_value, validate


def edit(path: Path, changes: Mapping[str, Any]) -> None:
    """Sets `a.b.c` to a value for each of `changes`, and leaves every other character as it is.

    The file is whole at all times. What the new text says is compared with what was meant before it
    replaces the old one.

    Raises:
        LimbeckError: a file whose layout leaves no safe place (anchors, other encodings); nothing
            is written then.
    """
    path = path.resolve()
    text = decoded(path)
    meant = apart(parse(text, str(path)))
    for key, value in changes.items():
        set_value(meant, key.split("."), value, key)
    try:
        for key, value in changes.items():
            text = with_value(text, key.split("."), scalar(value))
        same = parse(text, str(path)) == meant
    except (LimbeckError, yaml.YAMLError, IndexError):
        same = False
    if not same:
        lines = ", ".join(f"{key}: {scalar(value)}" for key, value in changes.items())
        raise LimbeckError(f"{path} has no place for these keys that is safe; write there {lines}")
    validate(meant)
    with atomic(path) as temporary:
        temporary.write_bytes(text.encode())
        shutil.copymode(path, temporary)


def apart(value: Any) -> Any:
    """A copy in which nothing is shared, as anchors and their aliases are."""
    if isinstance(value, dict):
        return {key: apart(inner) for key, inner in value.items()}
    return [apart(inner) for inner in value] if isinstance(value, list) else value


def decoded(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise LimbeckError(f"{path} must be UTF-8 to be changed in place") from error


def scalar(value: Any) -> str:
    """A value as YAML writes it; names of options need no quotes.

    >>> scalar(True), scalar("bfloat16"), scalar(2)
    ('true', 'bfloat16', '2')
    """
    return value if isinstance(value, str) else json.dumps(value)


def with_value(text: str, keys: list[str], value: str) -> str:
    """The text with one value set.

    >>> with_value("a: {b: 1}  # one\\n", ["a", "c"], "2")
    'a: {b: 1, c: 2}  # one\\n'
    >>> with_value("a:\\n  b: 1  # one\\n", ["a", "c", "d"], "2")
    'a:\\n  b: 1  # one\\n  c: {d: 2}\\n'
    """
    node = yaml.compose(text, Loader)
    for depth, key in enumerate(keys):
        rest = nested(keys[depth + 1 :], value)
        if not isinstance(node, yaml.MappingNode):
            raise LimbeckError(f"{'.'.join(keys[:depth])} is no mapping")
        found = [inner for name, inner in node.value if name.value == key]
        if not found:
            return inserted(text, node, f"{key}: {rest}")
        node = found[0]
        if isinstance(node, yaml.ScalarNode):
            begin, end = node.start_mark.index, node.end_mark.index
            space = " " if begin == end and text[begin - 1] == ":" else ""
            return text[:begin] + space + rest + text[end:]
    raise LimbeckError(f"{'.'.join(keys)} is no single value")


def nested(keys: list[str], value: str) -> str:
    """
    >>> nested(["a", "b"], "1")
    '{a: {b: 1}}'
    """
    return f"{{{keys[0]}: {nested(keys[1:], value)}}}" if keys else value


def inserted(text: str, node: yaml.MappingNode, entry: str) -> str:
    """The text with an entry at the end of a mapping, or below its last entry of one line."""
    if node.flow_style:
        if not node.value:
            at = node.end_mark.index - 1
            return text[:at] + entry + text[at:]
        at = node.value[-1][1].end_mark.index
        return f"{text[:at]}, {entry}{text[at:]}"
    indent, line = " " * node.start_mark.column, "\r\n" if "\r\n" in text else "\n"
    short = [value for key, value in node.value if ends_on_line(key, value)]
    if not short:
        at = node.start_mark.index
        return f"{text[:at]}{entry}{line}{indent}{text[at:]}"
    at = text.find("\n", short[-1].end_mark.index)
    if at < 0:
        return f"{text}{line}{indent}{entry}{line}"
    return f"{text[: at + 1]}{indent}{entry}{line}{text[at + 1 :]}"


def ends_on_line(key: yaml.Node, value: yaml.Node) -> bool:
    """Whether an entry of a block mapping ends on the line that its value ends on."""
    if isinstance(value, yaml.ScalarNode):
        return value.style not in ("|", ">") and value.start_mark.index > key.start_mark.index
    return isinstance(value, yaml.CollectionNode) and bool(value.flow_style)
