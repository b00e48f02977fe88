"""The order of a model's columns, found from what it answers."""

from collections import Counter
from collections.abc import Sequence

from torch import Tensor


def best_order(answers: Tensor, labels: Tensor, classes: int) -> list[int]:
    """The column of each class: pairs of class and answer by how often they meet, each once.

    Classes and columns that never meet keep their own place where it is free.

    >>> import torch
    >>> best_order(torch.tensor([2, 2, 0, 1]), torch.tensor([0, 0, 1, 2]), 3)
    [2, 0, 1]
    """
    pairs = Counter(zip(labels.tolist(), answers.tolist(), strict=True))
    often = sorted(pairs, key=lambda pair: (-pairs[pair], pair[0] != pair[1]))
    order: dict[int, int] = {}
    free = dict.fromkeys(range(classes))
    for label, column in [*often, *((k, k) for k in range(classes))]:
        if label not in order and column in free:
            order[label] = column
            del free[column]
    rest = iter(free)
    return [order[k] if k in order else next(rest) for k in range(classes)]


def renamed(order: Sequence[int], names: Sequence[str], most: int = 8) -> str:
    """What to call the columns, by those that change.

    >>> renamed([1, 0, 2], ("cat", "dog", "emu"))
    "call its column 0 'dog', column 1 'cat' in Spec(classes=...), and give order= ..."
    """
    owner = {column: names[label] for label, column in enumerate(order)}
    changed = [k for k in sorted(owner) if owner[k] != names[k]]
    shown = ", ".join(f"column {k} {owner[k]!r}" for k in changed[:most])
    more = f" and {len(changed) - most} more" if len(changed) > most else ""
    return f"call its {shown}{more} in Spec(classes=...), and give order= the data's classes"
