"""What an entry of the objective has flow, from whom to whom, and how that is said in short."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from limbeck.balance import Balance
from limbeck.objective import Objective, Truth, title
from limbeck.recipe.keywords import parameters
from limbeck.recipe.methods import Method
from limbeck.recipe.names import function
from limbeck.recipe.ramps import Ramp, is_ramp
from limbeck.recipe.setting import Setting
from limbeck.recipe.terms import Term

TARGET = ("data", "target")
SHORT = {  # what is worth a place beside a name, and the value at which it is not
    "temperature": ("T", 1),
    "threshold": ("threshold", 0),
    "sharpen": ("sharpen", 1),
    "label_smoothing": ("smoothing", 0),
}


class Flow(NamedTuple):
    """A signal of the student learns from one of a source."""

    student: str
    source: str
    theirs: str
    what: str
    weight: Any = 1

    def said(self, share: int = 1) -> str:
        """The term with its weight, of which `share` sources have an equal part each.

        >>> Flow("output", "teacher", "output", "kl T=4", 0.9).said(share=2)
        'kl T=4 · 0.9/2'
        """
        weight = amount(self.weight)
        if share > 1:
            weight = f"({weight})/{share}" if " " in weight else f"{weight}/{share}"
        return self.what if weight == "1" else f"{self.what} · {weight}"


def flows(entry: Term | Method, setting: Setting) -> list[Flow]:
    """What flows by an entry; a term of weight 0 is left out of a method."""
    return list(of_term(entry) if isinstance(entry, Term) else of_method(entry, setting))


def of_term(term: Term) -> Iterator[Flow]:
    """From its source, and from the labels where the loss is given them."""
    (_, student), (source, theirs), *given = term.needs
    weight = term.weight if term.balance is None else Balance(term.balance)
    what = set_to(term.name or f"{name_of(term)}{layer(student)}", term.keywords())
    yield Flow(student, source, term.theirs or theirs, what, weight)
    if TARGET in given:
        yield Flow(student, *TARGET, what, weight)


def name_of(term: Term) -> str:
    return "truth" if term.is_truth else title(function(term.loss))


def layer(signal: str) -> str:
    """A layer in brackets; an output is not worth saying.

    >>> layer("layer3"), layer("output.logits")
    ('[layer3]', '')
    """
    return "" if signal.split(".")[0] == "output" else f"[{signal}]"


def of_method(method: Method, setting: Setting) -> Iterator[Flow]:
    """The labels by themselves, everything else under the method's name."""
    with torch.random.fork_rng([]):
        terms = (1.0 * method.made(setting)).weighted()
    heard = [(dial.setting, term) for dial, term in terms if dial.setting != 0]
    own = [term for _, term in heard if not isinstance(term, Truth)]
    what = set_to(method.method, {key: argument(method, key) for key in SHORT})
    weight = argument(method, "weight") if len(own) == 1 else None
    for setting_of, term in heard:
        if isinstance(term, Truth):
            yield Flow(term.student, "data", term.theirs, "truth", setting_of)
        else:
            yield from of_objective(term, what, 1 if weight is None else weight)


def of_objective(term: Objective, what: str, weight: Any) -> Iterator[Flow]:
    """From each source that a term reads, and the labels; the student's own, if from no other."""
    needs = term.needs()
    ours = [name for source, name in needs if source == "student"] or ["output"]
    theirs = {source: name for source, name in needs if source not in ("student", "data")}
    for source, name in (theirs or {"student": ours[-1]}).items():
        yield Flow(ours[0], source, name, what, weight)
    if TARGET in needs:
        yield Flow(ours[0], *TARGET, what, weight)


def argument(method: Method, key: str) -> Any:
    """What a method is called with: as it is said, or else the default; None if it has neither."""
    said = method.said()
    if key in said.model_fields_set:
        return getattr(said, key)
    found = {p.name: p.default for p in parameters(method.method) if p.default is not p.empty}
    return found.get(key)


def set_to(what: str, options: dict[str, Any]) -> str:
    """A name with the keywords that tell it from others.

    >>> set_to("kl", {"temperature": 4, "axis": 1})
    'kl T=4'
    """
    said = [
        f"{short}={amount(options[key])}"
        for key, (short, usual) in SHORT.items()
        if options.get(key) not in (None, usual)
    ]
    return " ".join([what, *said])


def amount(value: Any) -> str:
    """A number, or from where to where it goes.

    >>> amount(0.25), amount({"schedule": "linear", "start": 0, "stop": 1}), amount(Balance(0.5))
    ('0.25', '0 to 1', 'balance 0.5')
    """
    if isinstance(value, Balance):
        return f"balance {value.fraction:g}"
    if is_ramp(value):
        value = Ramp.model_validate(value)
    if isinstance(value, int | float):
        return f"{value:g}"
    return f"{value.start:g} to {value.stop:g}" if hasattr(value, "stop") else "scheduled"


def part(signal: str) -> tuple[str, int] | None:
    """The kind and number of a part of a student that a signal is of, if it is of one.

    >>> part("output.features.1"), part("output.logits")
    (('exit', 1), None)
    """
    found = re.fullmatch(r"output\.(exits|features|branches)\.(\d+)", signal)
    if found is None:
        return None
    return ("branch" if found[1] == "branches" else "exit"), int(found[2])
