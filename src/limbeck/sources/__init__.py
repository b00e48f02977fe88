"""Sources: who teaches. A source turns a batch into signals.

`source(batch, signals, wants)` is called once a step, in declared order, with what was gathered
before it, and returns at least the signals in `wants`. The student's signals are among those before
it, unless the source is `early`, as frozen teachers are.
"""

from limbeck.sources.drawn import Drawn
from limbeck.sources.ema import Ema
from limbeck.sources.ensemble import Ensemble
from limbeck.sources.frozen import Frozen, as_source
from limbeck.sources.other_ranks import OtherRanks
from limbeck.sources.past import Past
from limbeck.sources.prior import Prior
from limbeck.sources.recorded import Recorded
from limbeck.sources.routed import Routed
from limbeck.sources.source import Source
from limbeck.sources.through import Through
from limbeck.sources.view import View

__all__ = [
    "Drawn",
    "Ema",
    "Ensemble",
    "Frozen",
    "OtherRanks",
    "Past",
    "Prior",
    "Recorded",
    "Routed",
    "Source",
    "Through",
    "View",
    "as_source",
]
