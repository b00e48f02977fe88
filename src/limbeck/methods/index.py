"""The index of methods: what each matches, where it comes from, what to know of it.

A row is data and needs no framework. The functions of the same names are in the family's file.
"""

from typing import NamedTuple


class Method(NamedTuple):
    """A row of the index.

    Args:
        name: the function in `limbeck.methods`.
        family: the file in `limbeck.methods` that holds it.
        signal: what is matched.
        formula: the distillation term, in one line.
        paper: authors, venue, arXiv number.
        parameters: what trains besides the student.
        taps: which signals it wants of common architectures.
        aliases: other names in the field.
        limits: where it is known to fail or to cost.
        published: figures of the authors or of common tables, never measured here.
    """

    name: str
    family: str
    signal: str
    formula: str
    paper: str
    parameters: str = "none"
    taps: str = "output"
    aliases: tuple[str, ...] = ()
    limits: str = ""
    published: str = ""
