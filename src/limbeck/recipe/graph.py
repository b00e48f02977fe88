"""Who teaches whom in a recipe, read from its blocks; no network is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.graph import Arrow, Graph, Node
from limbeck.graph.nodes import Kind, joined
from limbeck.recipe.arms import labels_only
from limbeck.recipe.attention import Attended
from limbeck.recipe.chains import plain, stages
from limbeck.recipe.flows import Flow, flows, part
from limbeck.recipe.images import Data
from limbeck.recipe.kinds import (
    DrawnSource,
    EmaSource,
    EnsembleSource,
    ForeignSource,
    OfStudent,
    PastSource,
    PriorSource,
    RoutedSource,
    StoredSource,
    ViewSource,
    members,
)
from limbeck.recipe.networks import Model, Teacher
from limbeck.recipe.schema import Entry, Recipe
from limbeck.recipe.setting import Setting
from limbeck.recipe.text import parse, validate
from limbeck.schemes.chains import STUDENT, TEACHER
from limbeck.schemes.taught import PEERS

LABELS = "labels"
TOGETHER = {  # what several students say as one
    "mean": "mean of the others",
    "naive": "who is nearest to the label",
    "linear": "their best weighted sum",
    "minlogit": "the least logit of each class",
    "general": "weighed by images held out",
}
MEAN, ATTENTION = "mean of peers", "weighed by attention"
MOST_LETTERS = 18  # of classes that are named


@dataclass(frozen=True)
class Lesson:
    """A training: who learns what, and who are meant by its teacher."""

    name: str
    model: Model
    objective: Sequence[Entry]
    teachers: Sequence[str] = (TEACHER,)
    drop: float = 0.0


def graph_of(recipe: Recipe) -> Graph:
    """The networks, answers and labels of a recipe, and what each gives another.

    A chain has every stage. What no term reads is there without an arrow.
    """
    taught = lessons(recipe)
    sketch = Sketch(recipe, several=len(taught) > 1)
    for lesson in taught:
        sketch.add(lesson.name, "answer" if lesson.model.branches else "student", told(lesson))
    for lesson in taught:
        sketch.learn(lesson)
    for name, block in recipe.teachers().items():
        if name not in sketch.read:
            sketch.add(name, *look(block, recipe.data))
    return Graph(tuple(sketch.nodes.values()), joined(sketch.arrows))


def graph_of_text(text: str) -> Graph:
    """The graph of a recipe as YAML.

    Raises:
        LimbeckError: no recipe.
    """
    return graph_of(validate(parse(text, "the recipe")))


def lessons(recipe: Recipe) -> list[Lesson]:
    """The trainings of a recipe: its students, or its stages in order."""
    if recipe.chain is not None:
        return [stage_lesson(recipe, stage) for stage in stages(recipe)]
    dense, students = recipe.dense, recipe.students or {STUDENT: recipe.student}
    teachers, drop = ((TEACHER,), 0.0) if dense is None else (dense.of, dense.drop)
    return [Lesson(n, model, recipe.objective, teachers, drop) for n, model in students.items()]


def stage_lesson(recipe: Recipe, stage: Any) -> Lesson:
    """A stage of a chain; one that nobody teaches learns from labels alone."""
    assert recipe.chain is not None
    objective = recipe.objective if stage.teachers else labels_only(recipe).objective
    drop = recipe.chain.drop if len(stage.teachers) > 1 else 0.0
    return Lesson(stage.name, plain(stage.model), objective, stage.teachers, drop)


def told(lesson: Lesson) -> str:
    """What a learner is; one with branches is what they say together."""
    branches, drop = lesson.model.branches, lesson.drop
    parts = [short(lesson.model)]
    parts += [f"{branches.count} branches by a gate"] if branches else []
    return ", ".join([*parts, *([f"drop {drop:g}"] if drop else [])])


def short(model: Model) -> str:
    """A network without the place that it is from.

    >>> short(Model(model="torchvision:resnet18"))
    'resnet18'
    """
    return model.model.rpartition(":")[2]


class Sketch:
    """Nodes and arrows as they are found."""

    def __init__(self, recipe: Recipe, several: bool) -> None:
        self.recipe, self.several = recipe, several
        self.nodes: dict[str, Node] = {}
        self.arrows: list[Arrow] = []
        self.read = set[str]()

    def add(self, name: str, kind: Kind, note: str = "") -> str:
        self.nodes.setdefault(name, Node(name, kind, note))
        return name

    def learn(self, lesson: Lesson) -> None:
        """What a training has flow."""
        setting = self.setting(lesson)
        for flow in (flow for entry in lesson.objective for flow in flows(entry, setting)):
            end, starts = self.place(lesson, flow.student), self.starts(lesson, flow)
            for start in starts:
                terms = (flow.said(len(starts)),)
                self.arrows.append(Arrow(start, end, terms, teaches=flow.source != "data"))
        branches = lesson.model.branches.count if lesson.model.branches else 0
        for name in (self.branch(k, lesson) for k in range(branches)):
            self.arrows.append(Arrow(name, lesson.name, teaches=False))

    def setting(self, lesson: Lesson) -> Setting:
        return self.recipe.model_copy(update={"student": lesson.model}).setting()

    def starts(self, lesson: Lesson, flow: Flow) -> list[str]:
        """Who teaches."""
        if flow.source == "data":
            return [self.labels()]
        if flow.source == "student":
            return [self.place(lesson, flow.theirs)]
        if flow.source == PEERS:
            return self.peers(lesson)
        names = lesson.teachers if flow.source == TEACHER else [flow.source]
        return [self.source(name, lesson) for name in names]

    def labels(self) -> str:
        kept = self.recipe.data.labels
        taken = {*self.recipe.teachers(), *(self.recipe.students or ())}
        name = "the data" if LABELS in taken else LABELS
        return self.add(name, "labels", "" if kept is None else f"{kept:,} kept")

    def place(self, lesson: Lesson, signal: str) -> str:
        """The student, or the part of it that a signal is of; the deepest exit is its own."""
        found = part(signal)
        if found is None:
            return lesson.name
        kind, k = found
        if kind == "branch":
            return self.branch(k, lesson)
        deepest = k >= (lesson.model.exit_count or 0)
        return lesson.name if deepest else self.add(self.of(f"exit {k}", lesson), "part")

    def branch(self, k: int, lesson: Lesson) -> str:
        return self.add(self.of(f"branch {k}", lesson), "part", "" if k else "ships")

    def of(self, name: str, lesson: Lesson) -> str:
        """What each learner has one of."""
        return f"{name} of {lesson.name}" if self.several else name

    def peers(self, lesson: Lesson) -> list[str]:
        """The other students, or what they say together."""
        students, teach = [*(self.recipe.students or ())], self.recipe.teach
        others = [name for name in students if name != lesson.name]
        if teach == "each" or (teach == "mean" and len(others) == 1):
            return others
        if isinstance(teach, Attended):
            leads, speaking = lesson.name == students[0], students[1:]
            name, note = (MEAN, "") if leads else (PEERS, ATTENTION)
            answer = self.add(name, "answer", note)
        else:
            speaking, answer = students, self.add(PEERS, "answer", TOGETHER[teach])
        self.arrows += [Arrow(name, answer, teaches=False) for name in speaking]
        return [answer]

    def source(self, name: str, lesson: Lesson) -> str:
        """A source by name, with what it is made of; an earlier stage is there already."""
        block = self.recipe.teachers().get(name)
        if block is None:
            return name
        self.read.add(name)
        own = self.of(name, lesson) if self.private(block) else name
        self.add(own, *look(block, self.recipe.data))
        for start, terms in self.made_of(block, lesson):
            self.arrows.append(Arrow(start, own, terms, teaches=False))
        return own

    def private(self, block: Any) -> bool:
        """Whether a source is made of what one learner is or says."""
        blocks, inside = self.recipe.teachers(), members(block)
        whole = isinstance(block, OfStudent) and not inside
        return whole or any(self.private(blocks[name]) for name in inside)

    def made_of(self, block: Any, lesson: Lesson) -> list[tuple[str, tuple[str, ...]]]:
        """Who goes into a source, and as what part."""
        inside = [self.source(name, lesson) for name in members(block)]
        if isinstance(block, PriorSource):
            return [(self.labels(), ())]
        if isinstance(block, OfStudent) and not inside:
            return [(lesson.name, ())]
        return list(zip(inside, shares(block), strict=True))


def look(block: Any, data: Data) -> tuple[Kind, str]:
    """What kind of node a source is, and what it is in words."""
    match block:
        case Teacher():
            return "network", short(block) + (", fitted first" if block.fit else "")
        case EmaSource():
            return "network", f"average, decay {block.decay:g}"
        case PastSource():
            return "answer", "said the last time"
        case ViewSource():
            return "answer", f"said of {other(data)}"
        case PriorSource():
            return "answer", f"{block.correct:g} for the label"
        case EnsembleSource():
            return "answer", f"mean of {block.mean}"
        case DrawnSource():
            return "answer", "one of them a step"
        case RoutedSource():
            return "answer", "by the image's class"
        case ForeignSource():
            return "network", block.model
        case StoredSource():
            return "answer", f"stored in {block.path}"
    raise TypeError(f"{type(block).__name__} is no source")


def other(data: Data) -> str:
    """The image that stands beside another in a batch of pairs."""
    if data.pairs == "class":
        return "another of the class"
    return "the other view" if data.strong is None else "the weak view"


def shares(block: Any) -> list[tuple[str, ...]]:
    """What each member of a source gives, where they differ."""
    if isinstance(block, RoutedSource):
        return [(classes(names),) for names in block.of.values()]
    if not isinstance(block, EnsembleSource) or block.weights is None:
        return [()] * len(members(block))
    return [
        (f"{weight:g}" if isinstance(weight, int | float) else "weights by class",)
        for weight in block.weights
    ]


def classes(names: Sequence[str]) -> str:
    """A few classes by name, many by their number.

    >>> classes(["cat", "dog"]), classes(["a long name", "another long name"])
    ('cat dog', '2 classes')
    """
    text = " ".join(names)
    return text if len(text) <= MOST_LETTERS else f"{len(names)} classes"
