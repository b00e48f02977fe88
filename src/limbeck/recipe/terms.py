"""A term of the objective by its loss."""

import inspect
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator

from limbeck.balance import Balance
from limbeck.errors import LimbeckError
from limbeck.objective import Match, Objective, check_options, truth
from limbeck.reader import is_output
from limbeck.recipe.names import function, projector
from limbeck.recipe.ramps import Ramp, is_ramp
from limbeck.recipe.setting import Setting
from limbeck.signals import split
from limbeck.tasks import Task
from limbeck.train.settings import Block


class Term(Block):
    """One match of the objective; keys that are not listed are keywords of the loss."""

    model_config = ConfigDict(extra="allow", frozen=True)

    loss: str = Field(description="truth, a name in limbeck.losses, or package.module:function")
    weight: float | Ramp = Field(1.0, description="a number, or a schedule")
    balance: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="instead: start as this fraction of the terms without balance"
    )
    at: str | None = Field(None, description="the signal on both sides")
    student: str | None = Field(None, description="the student's signal")
    theirs: str | None = Field(None, description="the source's signal")
    source: str = Field(
        "teacher", description="teacher, student, data, peers, or a name in `sources`"
    )
    given: dict[str, Annotated[str, Field(pattern=r"^[^:]+:.+$")]] = Field(
        {}, description="arguments of the loss that are signals: `{mask: data:first}`"
    )
    project: str | None = Field(None, description="conv, linear, or package.module:factory")
    name: str | None = Field(None, description="of the part in the metrics")

    @model_validator(mode="after")
    def fits(self) -> "Term":
        if self.at is not None and (self.student is not None or self.theirs is not None):
            raise ValueError("at names both sides; leave out student and theirs")
        if self.is_truth and self.project is not None:
            raise ValueError("truth takes logits as they are; leave out project")
        if self.balance is not None and self.weight != 1:
            raise ValueError("balance finds the weight; leave out weight")
        loss = truth if self.is_truth else function(self.loss)
        check_options(loss, [*self.keywords(), *(() if self.is_truth else self.given)])
        for name, value in self.keywords().items():
            check_number(name, value, inspect.signature(loss).parameters[name].default)
        if self.project is not None:
            projector(self.project)
        return self

    def keywords(self) -> dict[str, Any]:
        """The keywords of the loss."""
        return self.model_extra or {}

    def made(self, setting: Setting) -> Objective:
        """The weighted match."""
        match = self.match(setting.task)
        if self.balance is not None:
            return Balance(self.balance) * match
        weight = self.weight.made() if isinstance(self.weight, Ramp) else self.weight
        return weight * match

    @property
    def is_truth(self) -> bool:
        return self.loss == "truth"

    @property
    def needs(self) -> list[tuple[str, str]]:
        """The signals that it reads, as (source, name)."""
        student = self.student or self.at or "output"
        whose = (
            ("data", self.theirs or "target")
            if self.is_truth
            else (self.source, self.theirs or student)
        )
        return [("student", student), whose, *map(split, self.given.values())]

    @property
    def asks_teacher(self) -> bool:
        return "teacher" in self.asks

    @property
    def asks(self) -> list[str]:
        """The sources that it reads, each once."""
        return list(dict.fromkeys(source for source, _ in self.needs))

    @property
    def of_output(self) -> bool:
        """Whether the student's side is what it returns, not a layer inside."""
        return is_output(self.student or self.at or "output")

    def suits(self, task: Task) -> None:
        """Raises LimbeckError where the loss is not one for the outputs of this task."""
        right = task.instead.get(self.loss)
        if right is not None and self.of_output:
            raise LimbeckError(f"{self.loss} is wrong for task: {task.name}; use {right}")
        if self.is_truth:
            check_options(task.loss, [*self.keywords(), *self.given])

    def match(self, task: Task) -> Objective:
        keywords = {key: ramp_or(value) for key, value in self.keywords().items()}
        student = self.student or self.at or "output"
        if self.is_truth:
            name = self.name or "truth"
            target = self.theirs or "target"
            return truth(student, target, loss=task.loss, given=self.given, name=name, **keywords)
        return Match(
            function(self.loss),
            student,
            self.theirs or self.at,
            source=self.source,
            project=projector(self.project) if self.project else None,
            given=self.given,
            name=self.name,
            **keywords,
        )


def ramp_or(value: Any) -> Any:
    """A loss keyword, which may be a schedule."""
    return Ramp.model_validate(value).made() if is_ramp(value) else value


def check_number(name: str, value: Any, default: Any) -> None:
    """Raises LimbeckError where a loss wants a number and gets neither that nor a schedule."""
    if is_ramp(value):
        try:
            Ramp.model_validate(value)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join([name, *map(str, first["loc"])])
            raise LimbeckError(f"{where}: {first['msg'].lower()}, got {value}") from error
    elif type(default) in (int, float) and type(value) not in (int, float):
        raise LimbeckError(f"{name} must be a number or a schedule, got {value!r}")
