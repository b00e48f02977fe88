"""Methods by name: `limbeck.methods.dkd()` is an objective with the paper's defaults.

A name is found when it is first used, so that listing the index waits for no framework.

    >>> from limbeck import methods
    >>> methods.kd().parts()
    ['truth', 'kl']
    >>> methods.hinton is methods.kd
    True
"""

from importlib import import_module
from typing import Any

from limbeck.methods import (
    rows_dense,
    rows_feature,
    rows_logit,
    rows_relation,
    rows_self,
    rows_sigmoid,
    rows_teachers,
    rows_token,
)

FAMILIES = (
    rows_logit,
    rows_sigmoid,
    rows_feature,
    rows_relation,
    rows_token,
    rows_dense,
    rows_self,
    rows_teachers,
)
ROWS = [row for family in FAMILIES for row in sorted(family.ROWS)]
NAMES = {name: row for row in ROWS for name in (row.name, *row.aliases)}


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module 'limbeck.methods' has no attribute {name!r}")
    row = NAMES[name]
    return getattr(import_module(f"limbeck.methods.{row.family}"), row.name)


def __dir__() -> list[str]:
    return sorted(row.name for row in ROWS)
