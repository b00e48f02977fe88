"""The array operations that losses need, one file a framework, found by the array's type.

`ops.of(x)` is the module whose functions take arrays like `x`. Each module defines the same names
with the same meaning; a framework is imported when its first array arrives, never before.
"""

from types import ModuleType
from typing import Any

from limbeck.errors import LimbeckError

CONSTANT = 1e-12  # what varies less, beside its mean square, does not vary


class Tables(dict[type, ModuleType]):
    """The operations by the type of an array, found when its first array comes.

    `TABLES[type(x)]` is `of(x)` without a call, for what every step on logits passes.
    """

    def __missing__(self, kind: type) -> ModuleType:
        self[kind] = table = find(kind)
        return table


TABLES = Tables()


def of(x: Any) -> ModuleType:
    """The operations for arrays of the type of `x`.

    >>> import numpy as np
    >>> of(np.zeros(3)).__name__
    'limbeck.ops.numpy'
    """
    return TABLES[type(x)]


def find(kind: type) -> ModuleType:
    for base in kind.__mro__:
        framework = base.__module__.partition(".")[0]
        if framework == "torch":
            import limbeck.ops.torch as table
        elif framework in ("jax", "jaxlib"):
            import limbeck.ops.jax as table
        elif framework == "tensorflow":
            import limbeck.ops.tensorflow as table
        elif framework == "numpy":
            import limbeck.ops.numpy as table
        else:
            continue
        return table
    raise LimbeckError(f"an array must be of torch, JAX, TensorFlow or NumPy, got {kind.__name__}")
