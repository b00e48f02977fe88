"""Schemes: several students that learn at once and teach one another, or one after another."""

from limbeck.schemes.attention import Attention, okddip
from limbeck.schemes.branches import Branches, gate, one
from limbeck.schemes.chains import Stage, assistants, generations
from limbeck.schemes.guided import dense
from limbeck.schemes.mutual import Mutual

__all__ = [
    "Attention",
    "Branches",
    "Mutual",
    "Stage",
    "assistants",
    "dense",
    "gate",
    "generations",
    "okddip",
    "one",
]
