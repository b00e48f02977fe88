"""Schemes: several students that learn at once, and teach one another."""

from limbeck.schemes.attention import Attention, okddip
from limbeck.schemes.branches import Branches, gate, one
from limbeck.schemes.mutual import Mutual

__all__ = ["Attention", "Branches", "Mutual", "gate", "okddip", "one"]
