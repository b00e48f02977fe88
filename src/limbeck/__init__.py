"""Knowledge distillation: a sum of matches between signals of a student and of its sources."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck import losses as losses
    from limbeck import methods as methods
    from limbeck import projectors as projectors
    from limbeck import schedules as schedules
    from limbeck.balance import Balance as Balance
    from limbeck.distiller import Distiller as Distiller
    from limbeck.objective import Match as Match
    from limbeck.objective import Objective as Objective
    from limbeck.objective import Term as Term
    from limbeck.objective import truth as truth
    from limbeck.reader import Reader as Reader
    from limbeck.recipe import load as load
    from limbeck.signals import Step as Step
    from limbeck.sources import Ensemble as Ensemble
    from limbeck.sources import Frozen as Frozen
    from limbeck.sources import Recorded as Recorded

__version__ = "0.1.0"

HOMES = {
    "Balance": "limbeck.balance",
    "Distiller": "limbeck.distiller",
    "Ensemble": "limbeck.sources",
    "Frozen": "limbeck.sources",
    "Match": "limbeck.objective",
    "Objective": "limbeck.objective",
    "Reader": "limbeck.reader",
    "Recorded": "limbeck.sources",
    "Step": "limbeck.signals",
    "Term": "limbeck.objective",
    "load": "limbeck.recipe",
    "truth": "limbeck.objective",
}
MODULES = ("losses", "methods", "projectors", "schedules")
__all__ = [*sorted(HOMES), *MODULES]


def __getattr__(name: str) -> Any:
    """Names are imported when they are first used, so that `limbeck --help` never waits."""
    from importlib import import_module

    if name in HOMES:
        return getattr(import_module(HOMES[name]), name)
    if name in MODULES:
        return import_module(f"limbeck.{name}")
    raise AttributeError(f"module 'limbeck' has no attribute {name!r}")
