"""A student as a folder to ship: weights, ONNX, classes, preprocessing, and how to use them."""

from limbeck.export.folder import export as export
