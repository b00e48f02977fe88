"""How good a model is, what it costs, and how close it comes to its teacher."""

from limbeck.evaluate.document import evaluate as evaluate
from limbeck.evaluate.text import summary as summary
