"""The index of methods in words, read from rows and files; it waits for no framework."""

import ast
from pathlib import Path

from limbeck.errors import LimbeckError, close
from limbeck.methods import NAMES, ROWS
from limbeck.methods.index import Method
from limbeck.methods.measured import measured, where


def listing() -> str:
    """A line for each method: name, family, measured gain, what it matches, formula."""
    gains = {name: found.short for name, found in measured().items()}
    return "\n".join(
        f"{row.name:<20} {row.family:<9} {gains.get(row.name, ''):>6}  {row.signal:<26} "
        f"{row.formula}"
        for row in ROWS
    )


def explain(name: str) -> str:
    """Signature, row and docstring of one method."""
    if name not in NAMES:
        known = [row.name for row in ROWS]
        raise LimbeckError(f"a method must be one of {known}, got {name!r}{close(name, NAMES)}")
    row = NAMES[name]
    facts = row._asdict() | {"aliases": ", ".join(row.aliases)} | evidence(row.name)
    lines = [f"{key:<11} {value}" for key, value in facts.items() if value and key != "name"]
    signature, text = source(row)
    return "\n".join([f"{row.name}({signature})", "", *lines, "", text])


def evidence(name: str) -> dict[str, str]:
    """Gain and cost as they were measured, if they were."""
    found = measured().get(name)
    if found is None:
        return {}
    gain = f"{found.text}; {where()}"
    cost = f"{found.cost:.2f} times a step of labels only, the teacher alive" if found.cost else ""
    return {"measured": gain, "cost": cost}


def source(row: Method) -> tuple[str, str]:
    """Arguments and docstring of a method, read from its file without running it."""
    tree = ast.parse((Path(__file__).parent / f"{row.family}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == row.name:
            for argument in (*node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            return ast.unparse(node.args), ast.get_docstring(node) or ""
    raise LimbeckError(f"{row.family}.py must define {row.name}")
