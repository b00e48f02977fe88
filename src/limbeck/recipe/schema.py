"""What a recipe may say."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import (
    Discriminator,
    Field,
    PositiveInt,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import nn

from limbeck.errors import RecipeError, close
from limbeck.objective import Objective, Sum
from limbeck.recipe.attention import Teach
from limbeck.recipe.images import Data
from limbeck.recipe.kinds import ForeignSource
from limbeck.recipe.methods import Method
from limbeck.recipe.networks import Assistant, Model, NamedSource, Taught, Teacher
from limbeck.recipe.setting import Setting
from limbeck.recipe.students import check_group
from limbeck.recipe.terms import Term
from limbeck.recipe.whole import faults, merges
from limbeck.tasks import TASKS, Task
from limbeck.train.settings import Block, Training


class Chain(Block):
    """Trainings one after another, each taught by those before it; the student's is the last."""

    generations: PositiveInt | None = Field(
        None, description="so many more of the student, each taught by the one before"
    )
    assistants: list[Assistant] | None = Field(
        None, min_length=1, description="networks between teacher and student, the largest first"
    )
    dense: bool = Field(False, description="each learns from all before it, the teacher included")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="chance of each of those to be left out of a step; one always stays"
    )

    @model_validator(mode="after")
    def one_kind(self) -> "Chain":
        if (self.generations is None) == (self.assistants is None):
            raise ValueError("a chain has generations or assistants; name one of them")
        if self.dense and self.assistants is None:
            raise ValueError("dense is for assistants; a generation learns from the one before")
        if self.drop and not self.dense:
            raise ValueError("drop leaves out teachers of a dense chain; set dense: true")
        return self


class Dense(Block):
    """Sources that share the teacher's terms, each with an equal part of their weight."""

    of: list[str] = Field(min_length=1, description="the teacher and further sources")
    drop: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0, description="chance of each to be left out of a step; one always stays"
    )


def kind_of(entry: Any) -> str:
    """Which of its two kinds an entry of the objective is, as written or as made."""
    written = isinstance(entry, Mapping) and "method" in entry
    return "a method" if written or isinstance(entry, Method) else "a loss"


Entry = Annotated[
    Annotated[Term, Tag("a loss")] | Annotated[Method, Tag("a method")], Discriminator(kind_of)
]


class Comparison(Block):
    """What `limbeck compare` runs beside the recipe."""

    seeds: PositiveInt = Field(3, description="seeds of each arm")
    arms: dict[str, dict[str, Any]] = Field({}, description="name -> overrides of this recipe")


def clash(part: str, first: int, second: int) -> str:
    """The line about a part that two entries have, one of them a method."""
    cure = "give the loss a name of its own, or leave one of them out"
    if part == "truth":
        cure = "a method brings its own: set truth_weight: 0 or leave out the truth"
    return f"objective.{first} and objective.{second} both have a part {part!r}; {cure}"


UNSAID: Any = None  # a student, until it is the first of several


class Recipe(Block):
    """A distillation, whole."""

    version: Literal[1] = Field(1, description="of this format")
    task: Literal["classification", "multilabel", "regression"] = Field(
        "classification", description="one class an image, several, or numbers"
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="of every random choice")
    data: Data
    student: Model = Field(
        UNSAID, validate_default=False, description="the network to train; required, or students"
    )
    students: dict[str, Model] | None = Field(
        None, description="instead: several by name, which teach one another; the first ships"
    )
    teach: Teach = Field(
        "each", description="of students: who is the source peers, each other or one answer of all"
    )
    teacher: Taught | None = Field(None, description="a network of any framework, or store:PATH")
    sources: dict[str, NamedSource] = Field(
        {}, description="further teachers, by the names that entries of the objective read from"
    )
    chain: Chain | None = None
    dense: Dense | None = None
    objective: list[Entry] = Field(min_length=1, description="the terms of the loss")
    train: Training = Field(Training(), description="how the student is trained")
    compare: Comparison = Field(Comparison(), description="how the gain is measured")

    @field_validator("students")
    @classmethod
    def one_or_several(
        cls, value: dict[str, Model] | None, info: ValidationInfo
    ) -> dict[str, Model] | None:
        if "student" in info.data:  # else it is told already what is wrong with that
            check_group(info.data["student"], value)
        return value

    @model_validator(mode="after")
    def first_ships(self) -> "Recipe":
        """The first of several is the student, wherever one is meant."""
        if self.students is not None:
            self.__dict__["student"] = next(iter(self.students.values()))
        return self

    @model_serializer(mode="wrap")
    def written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The recipe as it can be read again: with a student or with students."""
        content = write(self)
        if self.students is not None:
            content.pop("student", None)
        return content

    @model_validator(mode="after")
    def consistent(self) -> "Recipe":
        found = faults(self)
        if found:
            raise RecipeError(found)
        records = isinstance(self.teacher, Teacher | ForeignSource) and self.teacher.record
        if records and self.data.views is None:
            raise ValueError("teacher.record needs data.views, the number of recycled variations")
        if all(isinstance(term, Term) and term.balance is not None for term in self.objective):
            raise ValueError("every term has a balance and none a weight to be balanced with")
        return self

    @model_validator(mode="after")
    def linked(self) -> "Recipe":
        """Each stage of a chain has who teaches it, and something to learn from them."""
        if self.chain is None:
            return self
        if self.chain.assistants and self.teacher is None:
            raise ValueError(
                "chain.assistants stand between a teacher and the student, but there is no teacher"
            )
        if not any(term.asks_teacher for term in self.objective):
            raise ValueError(
                "a chain needs a teacher's term in the objective, or its stages learn nothing "
                "from each other"
            )
        return self

    @model_validator(mode="after")
    def shared(self) -> "Recipe":
        """All who share the teacher's terms exist."""
        known = list(self.teachers())
        for name in self.dense.of if self.dense else ():
            if name not in known:
                raise ValueError(f"dense.of must be of {known}, got {name!r}{close(name, known)}")
        if self.dense and not any(term.asks_teacher for term in self.objective):
            raise ValueError("dense shares the teacher's terms, but the objective has none")
        return self

    @model_validator(mode="after")
    def of_one_task(self) -> "Recipe":
        for term in self.objective:
            term.suits(self.asked)
        for name, block in self.networks().items():
            if not self.asked.exclusive and merges(block.class_map):
                where = name if name == "teacher" and self.teacher else f"sources.{name}"
                raise ValueError(
                    f"{where}.class_map merges classes, which only those that exclude each other "
                    f"can; with task: {self.task} name one for each"
                )
        return self

    @model_validator(mode="after")
    def told_apart(self) -> "Recipe":
        """No part of a method has the name of another; of two losses, their sum tells."""
        owners: dict[str, int] = {}
        for i, entry in enumerate(self.objective):
            with torch.random.fork_rng([]):
                parts = entry.made(self.setting()).parts()
            for part in parts:
                first = owners.setdefault(part, i)
                pair = (self.objective[first], entry)
                if first != i and any(isinstance(each, Method) for each in pair):
                    raise ValueError(clash(part, first, i))
        return self

    @property
    def asked(self) -> Task:
        """The task."""
        return TASKS[self.task]

    def setting(self, teacher: nn.Module | None = None, samples: int = 2) -> Setting:
        """What the objective is made for."""
        branches = self.student.branches.count if self.student.branches else 2
        return Setting(self.asked, teacher, samples, self.student.exit_count or 1, branches)

    @property
    def live(self) -> Teacher | None:
        """The teacher, if it is a network."""
        return self.teacher if isinstance(self.teacher, Teacher) else None

    def teachers(self) -> dict[str, Any]:
        """The blocks of all sources by name, the teacher's first."""
        return {**({} if self.teacher is None else {"teacher": self.teacher}), **self.sources}

    def networks(self) -> dict[str, Teacher]:
        """Those that are networks of their own."""
        return {n: block for n, block in self.teachers().items() if isinstance(block, Teacher)}

    def sum(self, setting: Setting | None = None) -> Objective:
        """The objective; modules of the teacher are stand-ins, unless the setting has a teacher."""
        found = setting or self.setting()
        return Sum([(1.0, term.made(found)) for term in self.objective])
