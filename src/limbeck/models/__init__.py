"""Networks by name, their heads, their classes, their view of an image, their cost."""

from limbeck.models.build import build, check_spec, preprocess_of
from limbeck.models.classes import ClassMap, check_classes
from limbeck.models.cost import cost
from limbeck.models.folding import fold
from limbeck.models.head import fresh_head
from limbeck.models.int8 import Int8Linear, quantise
from limbeck.models.teacher import as_module, suspicious_weights

__all__ = [
    "ClassMap",
    "Int8Linear",
    "as_module",
    "build",
    "check_classes",
    "check_spec",
    "cost",
    "fold",
    "fresh_head",
    "preprocess_of",
    "quantise",
    "suspicious_weights",
]
