"""Networks by name, their heads, their classes, their view of an image, their cost."""

from limbeck.models.build import build, check_spec, preprocess_of
from limbeck.models.classes import ClassMap, check_classes
from limbeck.models.cost import cost, suspicious_weights

__all__ = [
    "ClassMap",
    "build",
    "check_classes",
    "check_spec",
    "cost",
    "preprocess_of",
    "suspicious_weights",
]
