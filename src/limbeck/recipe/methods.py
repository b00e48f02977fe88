"""A method by name as an entry of the objective."""

import inspect
from typing import Any

import torch
from pydantic import ConfigDict, Field, field_validator, model_validator

from limbeck.errors import LimbeckError
from limbeck.losses import cross_entropy
from limbeck.objective import Match, Objective, Sum, Truth, title, truth
from limbeck.reader import is_output
from limbeck.recipe.keywords import COUNTED, keywords, method, named, parameters
from limbeck.recipe.ramps import Ramp
from limbeck.recipe.setting import Place, Setting
from limbeck.tasks import Task
from limbeck.train.settings import Block

DATA = ("ids", "target", "view")  # what every batch of images brings
HALVES = ("first", "second")  # and one of pairs: the half that learns, the half that teaches


class Method(Block):
    """A method with its own truth; keys that are not listed are keywords of its function."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str = Field(description="a name in limbeck.methods, which `limbeck methods` lists")

    @field_validator("method")
    @classmethod
    def exists(cls, value: str) -> str:
        return named(value)

    @model_validator(mode="after")
    def fits(self) -> "Method":
        if "loss" in self.keywords():
            raise ValueError("an entry has a loss or a method; leave one of them out")
        strange = {name for source, name in self.draft().needs() if source == "data"}
        strange -= {*DATA, *HALVES}
        if strange:
            cure = (
                "mask: null" if strange == {"mask"} else f"limbeck.methods.{self.method} in Python"
            )
            raise ValueError(
                f"{self.method} reads {sorted(strange)} from the data, which is {list(DATA)} "
                f"in a recipe; use {cure}"
            )
        return self

    def keywords(self) -> dict[str, Any]:
        """The keywords of the method, as they are written."""
        return self.model_extra or {}

    def said(self) -> Block:
        """The keywords as the function's arguments, schedules and paths still as they are said."""
        return keywords(self.method).model_validate(self.keywords())

    @property
    def truth_weight(self) -> Any:
        """The weight of the labels, a number or a schedule as it is written; 0 without them."""
        own = {p.name: p.default for p in parameters(self.method)}
        given = self.said().model_dump(include={"truth_weight"}, exclude_unset=True)
        return {"truth_weight": 0.0, **own, **given}["truth_weight"]

    @property
    def needs(self) -> list[tuple[str, str]]:
        """The signals that it reads, as (source, name)."""
        return self.draft().needs()

    @property
    def asks_teacher(self) -> bool:
        return "teacher" in self.asks

    @property
    def asks(self) -> list[str]:
        """The sources that it reads, each once."""
        return list(dict.fromkeys(source for source, _ in self.needs))

    def draft(self) -> Objective:
        """The method before anything is built; random numbers are afterwards as they were."""
        with torch.random.fork_rng([]):
            return self.called(Setting())

    def called(self, setting: Setting) -> Objective:
        """What the function of the method returns."""
        said = self.said()
        given = {key: value(getattr(said, key), setting) for key in said.model_fields_set}
        needed = [p.name for p in parameters(self.method) if p.default is p.empty]
        counted = {name: getattr(setting, name) for name in COUNTED if name in needed}
        return method(self.method)(**counted | given)

    def made(self, setting: Setting) -> Objective:
        """The method; its truth is the task's."""
        terms = (1.0 * self.called(setting)).weighted()
        return Sum((dial.setting, of_task(term, setting.task)) for dial, term in terms)

    def suits(self, task: Task) -> None:
        """Raises LimbeckError where the method is not one for the outputs of this task."""
        for match in self.draft().modules():
            right = instead(match, task) if isinstance(match, Match) else None
            if right is not None:
                raise LimbeckError(f"{self.method} is wrong for task: {task.name}; use {right}")


def value(said: Any, setting: Setting) -> Any:
    """An argument, from what a recipe says."""
    if isinstance(said, Place):
        return setting.module(said)
    return said.made() if isinstance(said, Ramp) else said


def of_task(term: Objective, task: Task) -> Objective:
    """The labels as the task asks for them; any other term as it is."""
    if not isinstance(term, Truth) or term.loss is task.loss:
        return term
    return truth(term.student, term.theirs, loss=task.loss)


def instead(match: Match, task: Task) -> str | None:
    """What is right in place of a match that is wrong for the outputs of a task."""
    if isinstance(match, Truth):
        other = match.loss not in (cross_entropy, task.loss)
        return task.instead.get("kl", "kd") if other else None
    return task.instead.get(title(inspect.unwrap(match.loss))) if is_output(match.student) else None
