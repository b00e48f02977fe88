"""Before a training: is everything that it is made of what it should be, and what will it cost?"""

from limbeck.check.document import check as check
from limbeck.check.memory import memory_rule as memory_rule
from limbeck.check.text import summary as summary
