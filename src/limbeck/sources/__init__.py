"""Sources: who teaches. A source turns a batch into signals.

`source(batch, signals, wants)` is called once a step, in declared order, with what was gathered
before it, and returns at least the signals in `wants`. The student's signals are among those before
it, unless the source is `early`, as frozen teachers are.
"""

from limbeck.sources.ensemble import Ensemble
from limbeck.sources.frozen import Frozen, as_source
from limbeck.sources.recorded import Recorded
from limbeck.sources.source import Source

__all__ = ["Ensemble", "Frozen", "Recorded", "Source", "as_source"]
