"""Methods by name: `limbeck.methods.dkd()` is an objective with the paper's defaults.

A name is found when it is first used, so that listing the index waits for no framework.

    >>> from limbeck import methods
    >>> methods.kd().parts()
    ['truth', 'kl']
    >>> methods.hinton is methods.kd
    True
"""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError, close
from limbeck.methods import (
    rows_dense,
    rows_feature,
    rows_logit,
    rows_relation,
    rows_sigmoid,
    rows_token,
)
from limbeck.methods.index import Method

FAMILIES = (rows_logit, rows_sigmoid, rows_feature, rows_relation, rows_token, rows_dense)
ROWS = [row for family in FAMILIES for row in sorted(family.ROWS)]
NAMES = {name: row for row in ROWS for name in (row.name, *row.aliases)}


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'limbeck.methods' has no attribute {name!r}")
    row = NAMES[name]
    return getattr(import_module(f"limbeck.methods.{row.family}"), row.name)


def __dir__() -> list[str]:
    return sorted(row.name for row in ROWS)


def index() -> str:
    """A line for each method: name, family, what it matches, formula."""
    return "\n".join(
        f"{row.name:<20} {row.family:<9} {row.signal:<26} {row.formula}" for row in ROWS
    )


def explain(name: str) -> str:
    """Signature, row and docstring of one method."""
    if name not in NAMES:
        known = [row.name for row in ROWS]
        raise LimbeckError(f"a method must be one of {known}, got {name!r}{close(name, NAMES)}")
    row = NAMES[name]
    facts = row._asdict() | {"aliases": ", ".join(row.aliases)}
    lines = [f"{key:<11} {value}" for key, value in facts.items() if value and key != "name"]
    signature, text = source(row)
    return "\n".join([f"{row.name}({signature})", "", *lines, "", text])


def source(row: Method) -> tuple[str, str]:
    """Arguments and docstring of a method, read from its file without running it."""
    tree = ast.parse((Path(__file__).parent / f"{row.family}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == row.name:
            for argument in (*node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            return ast.unparse(node.args), ast.get_docstring(node) or ""
    raise LimbeckError(f"{row.family}.py must define {row.name}")
