"""Exits: a model with classifiers at several depths, so that the deepest may teach the others.

Branches: a model whose last part is there several times, so that their ensemble may teach each.

B batch, C channels, H, W height and width, N tokens, D their width. A place is the path of a module
that gives a map (B, C, H, W) or tokens (B, N, D).
"""

from limbeck.exits.branched import Branched
from limbeck.exits.early import Early
from limbeck.exits.model import Exits, without
from limbeck.exits.places import find

__all__ = ["Branched", "Early", "Exits", "find", "without"]
