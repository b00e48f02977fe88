"""Knowledge distillation: a sum of matches between signals of a student and of its sources."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck import losses as losses
    from limbeck import methods as methods
    from limbeck import projectors as projectors
    from limbeck import schedules as schedules
    from limbeck import schemes as schemes
    from limbeck.balance import Balance as Balance
    from limbeck.distiller import Distiller as Distiller
    from limbeck.exits import Exits as Exits
    from limbeck.objective import Match as Match
    from limbeck.objective import Objective as Objective
    from limbeck.objective import Term as Term
    from limbeck.objective import truth as truth
    from limbeck.reader import Reader as Reader
    from limbeck.recipe import load as load
    from limbeck.schemes import Mutual as Mutual
    from limbeck.signals import Step as Step
    from limbeck.sources import Drawn as Drawn
    from limbeck.sources import Ema as Ema
    from limbeck.sources import Ensemble as Ensemble
    from limbeck.sources import Frozen as Frozen
    from limbeck.sources import OtherRanks as OtherRanks
    from limbeck.sources import Past as Past
    from limbeck.sources import Prior as Prior
    from limbeck.sources import Recorded as Recorded
    from limbeck.sources import Routed as Routed
    from limbeck.sources import Through as Through
    from limbeck.sources import View as View

__version__ = "0.1.0"

HOMES = {
    "Balance": "limbeck.balance",
    "Distiller": "limbeck.distiller",
    "Drawn": "limbeck.sources",
    "Ema": "limbeck.sources",
    "Ensemble": "limbeck.sources",
    "Exits": "limbeck.exits",
    "Frozen": "limbeck.sources",
    "Match": "limbeck.objective",
    "Mutual": "limbeck.schemes",
    "Objective": "limbeck.objective",
    "OtherRanks": "limbeck.sources",
    "Past": "limbeck.sources",
    "Prior": "limbeck.sources",
    "Reader": "limbeck.reader",
    "Recorded": "limbeck.sources",
    "Routed": "limbeck.sources",
    "Step": "limbeck.signals",
    "Term": "limbeck.objective",
    "Through": "limbeck.sources",
    "View": "limbeck.sources",
    "load": "limbeck.recipe",
    "truth": "limbeck.objective",
}
MODULES = ("losses", "methods", "projectors", "schedules", "schemes")
__all__ = [*sorted(HOMES), *MODULES]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `limbeck --help` never waits."""
    from importlib import import_module

    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name in MODULES:
        return import_module(f"limbeck.{name}")
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
