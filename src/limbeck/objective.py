"""Objectives: distillation is a sum of matches.

L = sum_i weight_i * loss_i(project_i(student[signal_i]), stopgrad(source_i[signal_i]))
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.balance import Factor
from limbeck.dials import Dial, Weight, dial, is_schedule, product
from limbeck.errors import LimbeckError, close
from limbeck.losses.known import known, valid
from limbeck.projectors import Factory
from limbeck.signals import Signals, split
from limbeck.textbook import Textbook

Loss = Callable[..., Tensor]


class Objective(nn.Module):
    """What a student is trained on. Objectives add, and scale by numbers, schedules, balances.

    A subclass says which signals it reads (`needs`), and turns them into named, weighted parts
    (`forward`); it may own parameters and buffers, which train and are saved with the distiller.
    """

    def needs(self) -> list[tuple[str, str]]:
        """The signals to gather, as (source, name); the student is the source `"student"`."""
        raise TypeError(f"{type(self).__name__} must say what it needs")

    def parts(self) -> list[str]:
        """The names of the parts that `forward` returns."""
        raise TypeError(f"{type(self).__name__} must name its parts")

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        """The weighted parts, whose sum is the loss."""
        raise TypeError(f"{type(self).__name__} must define forward")

    def total(self, signals: Signals) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts without a gradient."""
        return added(self.forward(signals))

    def prepare(self, signals: Signals) -> None:
        """Builds what depends on shapes, from the signals of a dry run."""

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """How many items each part averages over, where the data says so (labels, masks)."""
        return {}

    def silent(self) -> bool:
        """Whether this step's parts are 0 whatever a source says, so that it need not be asked."""
        return False

    def advance(self, progress: float) -> None:
        """Moves every schedule to `progress` in [0, 1]."""
        for module in self.modules():
            if isinstance(module, Dial):
                module.advance(progress)

    def __add__(self, other: "Objective") -> "Sum":
        return Sum([(1.0, self), (1.0, other)])

    def __rmul__(self, factor: Weight) -> "Sum":
        return Sum([(factor, self)])

    __mul__ = __rmul__


class Sum(Objective):
    """A weighted sum of objectives; nested sums are one sum."""

    def __init__(self, terms: Iterable[tuple[Weight, Objective]]) -> None:
        super().__init__()
        flat = [pair for weight, term in terms for pair in flatten(weight, term)]
        self.pairs = [(dial(weight, " + ".join(term.parts())), term) for weight, term in flat]
        self.weights = nn.ModuleList(weight for weight, _ in self.pairs)
        self.terms = nn.ModuleList(term for _, term in self.pairs)
        self.textbook = textbook(self.pairs)
        names = self.parts()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise LimbeckError(f"parts must have names of their own, got {twice} twice; give name=")

    def weighted(self) -> list[tuple[Dial | Factor, Objective]]:
        """The terms in order, each with its weight."""
        return self.pairs

    def needs(self) -> list[tuple[str, str]]:
        return [need for _, term in self.weighted() for need in term.needs()]

    def parts(self) -> list[str]:
        return [name for _, term in self.weighted() for name in term.parts()]

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        pairs = self.pairs
        parts: dict[str, Tensor] = {}
        if self.textbook is not None:
            parts = self.textbook.parts(signals)
            pairs = pairs[len(parts) :]
        for weight, term in pairs:
            factor = weight()
            for name, value in term.forward(signals).items():
                parts[name] = factor * value
        return parts

    def total(self, signals: Signals) -> tuple[Tensor, dict[str, Tensor]]:
        if self.textbook is not None and len(self.pairs) == 2:
            whole = self.textbook.total(signals)
            if whole is not None:
                return whole
        return added(self.forward(signals))

    def prepare(self, signals: Signals) -> None:
        for _, term in self.weighted():
            term.prepare(signals)

    def factors(self) -> list[Factor]:
        """The weights of the balanced terms."""
        return [weight for weight in self.weights if isinstance(weight, Factor)]

    def first_values(self, signals: Signals) -> list[float]:
        """What each term comes to, weighted; without its factor, if it is balanced."""
        values = []
        for weight, term in self.pairs:
            value = sum(float(part) for part in term(signals).values())
            values.append(float(weight()) * value if isinstance(weight, Dial) else value)
        return values

    def balance(self, values: Sequence[float]) -> None:
        """Finds the factors of balanced terms from the first values of all terms."""
        pairs = list(zip(self.pairs, values, strict=True))
        rest = sum(value for (weight, _), value in pairs if isinstance(weight, Dial))
        for (weight, _), value in pairs:
            if isinstance(weight, Factor):
                weight.find(value, rest)

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        return {name: n for _, term in self.weighted() for name, n in term.items(data).items()}


class Match(Objective):
    """One signal of the student agrees with one signal of a source.

    Args:
        loss: a function `(s, t, ...) -> scalar`, from `limbeck.losses` or your own.
        student: the student's signal: `"output"`, `"output.logits"`, a module path; or, as
            `"source:signal"`, what a source such as `Through` makes of it with a gradient.
        theirs: the source's signal; the same name unless said.
        source: whose; `"teacher"`, `"data"`, or a name that the distiller gave.
        project: a factory from `limbeck.projectors`, or a module, for the student's signal.
        given: further arguments of the loss that are signals: `{"mask": "data:mask"}`.
        name: the part's name; `loss[signal]:source` with what is usual left out, unless said.
        options: the loss's own keywords (`temperature=4`); a number may be a schedule.

    Raises:
        LimbeckError: a keyword that the loss does not have.

    Example:
        >>> match = Match(losses.kl, temperature=4)
        >>> match.parts(), match.needs()
        (['kl'], [('student', 'output'), ('teacher', 'output')])
    """

    def __init__(
        self,
        loss: Loss,
        student: str = "output",
        theirs: str | None = None,
        *,
        source: str = "teacher",
        project: Factory | nn.Module | None = None,
        given: Mapping[str, str] | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.ours = split(student) if ":" in student else ("student", student)
        self.loss, self.student, self.theirs = loss, student, theirs or self.ours[1]
        self.source, self.given = source, dict(given or {})
        self.detaches = True
        check_options(loss, [*options, *self.given])
        self.options = {k: v for k, v in options.items() if not is_schedule(v)}
        self.dials = nn.ModuleDict({k: Dial(v) for k, v in options.items() if is_schedule(v)})
        self.moves = bool(self.given or self.dials)  # keywords are made anew in each step
        self.factory = None if isinstance(project, nn.Module) else project
        self.projector = project if isinstance(project, nn.Module) else None
        self.name = name or self.default_name()

    def default_name(self) -> str:
        where = "" if self.student.split(".")[0] == "output" else f"[{self.student}]"
        whose = "" if self.source == "teacher" else f":{self.source}"
        return f"{title(self.loss)}{where}{whose}"

    def needs(self) -> list[tuple[str, str]]:
        sides = [self.ours, (self.source, self.theirs)]
        return sides + [split(address) for address in self.given.values()]

    def parts(self) -> list[str]:
        return [self.name]

    def prepare(self, signals: Signals) -> None:
        s, t = self.sides(signals)
        if self.factory is not None and self.projector is None:
            try:
                self.projector = self.factory(tuple(s.shape), tuple(t.shape))
            except ValueError as error:
                raise self.mismatch(s, t, error) from error
            self.projector.to(s.device, torch.promote_types(s.dtype, torch.float32))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        s, t = self.sides(signals)
        if self.projector is not None:
            s = project(self.projector, s)
        elif self.factory is not None:
            raise LimbeckError(
                f"{self.name}: the projector has no size yet; call distiller.prepare(inputs) first"
            )
        options = self.keywords(signals) if self.moves else self.options
        try:
            return {self.name: self.loss(s, t.detach() if self.detaches else t, **options)}
        except ValueError as error:
            raise self.mismatch(s, t, error) from error

    def keywords(self, signals: Signals) -> dict[str, Any]:
        """The loss's own keywords, those that are signals or follow a schedule included."""
        given = {key: signals.read(address) for key, address in self.given.items()}
        return given | {key: dial() for key, dial in self.dials.items()} | self.options

    def sides(self, signals: Signals) -> tuple[Tensor, Tensor]:
        whose, name = self.ours
        try:
            return signals[whose][name], signals[self.source][self.theirs]
        except KeyError:  # `of` says what there is
            return signals.of(whose, name), signals.of(self.source, self.theirs)

    def says(self, loss: Loss, *options: str) -> bool:
        """Whether it is no more than `loss` of two signals, with no options but these."""
        own = type(self) in (Match, Truth) and self.options.keys() <= {*options}
        bare = self.factory is self.projector is None and not self.moves
        return own and bare and self.loss is loss

    def mismatch(self, s: Tensor, t: Tensor, error: Exception) -> LimbeckError:
        return LimbeckError(
            f"{self.name}: student {self.student!r} {tuple(s.shape)} against "
            f"{self.source} {self.theirs!r} {tuple(t.shape)}: {error}"
        )

    def items(self, data: Mapping[str, Any]) -> dict[str, Tensor]:
        told = self.told(data)
        if not told:
            return {}
        counted = told[0]
        for other in told[1:]:
            counted, other = sorted((counted, other), key=Tensor.dim, reverse=True)
            counted = counted & other.reshape(*other.shape, *[1] * (counted.ndim - other.ndim))
        return {self.name: counted.sum()}

    def told(self, data: Mapping[str, Any]) -> list[Tensor]:
        """What the data says of which items count: by the mask, by labels that are known."""
        given = {key: split(address) for key, address in self.given.items()}
        ours = {key: data[name] for key, (source, name) in given.items() if source == "data"}
        masks = [valid(self.loss, ours["mask"].ne(0))] if "mask" in ours else []
        return masks + ([ours["target"].ne(-100)] if "target" in ours else [])

    def extra_repr(self) -> str:
        return f"{self.name}: {self.student} ~ {self.source}:{self.theirs}, {self.options}"


class Truth(Match):
    """The match with the labels: `loss(student, data)`."""

    def told(self, data: Mapping[str, Any]) -> list[Tensor]:
        labelled = known(self.loss, data[self.theirs])
        return super().told(data) + ([] if labelled is None else [labelled])


class Term(Objective):
    """A one-sided term: a function of signals that already is a loss.

    Args:
        fn: called with the signals in `given` as keywords; returns a scalar.
        given: argument -> `"source:signal"`.
        name: the part's name; the function's unless said.

    Example:
        >>> Term(lambda loss: loss, given={"loss": "student:output.loss"}, name="own").parts()
        ['own']
    """

    def __init__(self, fn: Loss, *, given: Mapping[str, str], name: str | None = None) -> None:
        super().__init__()
        self.fn, self.given, self.name = fn, dict(given), name or title(fn)

    def needs(self) -> list[tuple[str, str]]:
        return [split(address) for address in self.given.values()]

    def parts(self) -> list[str]:
        return [self.name]

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        return {self.name: self.fn(**{k: signals.read(a) for k, a in self.given.items()})}


def truth(
    student: str = "output",
    target: str = "target",
    *,
    loss: Loss = losses.cross_entropy,
    label_smoothing: float = 0.0,
    given: Mapping[str, str] | None = None,
    name: str = "truth",
) -> Truth:
    """The hard term: the student against the labels, by default their cross-entropy.

    `loss=losses.binary_cross_entropy` is for several labels at once, `losses.squared_error` for
    numbers. Labels of -100 (numbers that are NaN) are withheld; the divisor is the number of items
    that have a label, as the loss says. `label_smoothing` is the cross-entropy's.

    Example:
        >>> alpha = 0.5
        >>> objective = alpha * truth() + (1 - alpha) * Match(losses.kl, temperature=4)
        >>> objective.parts()
        ['truth', 'kl']
    """
    smoothing: dict[str, Any] = {"label_smoothing": label_smoothing} if label_smoothing else {}
    return Truth(loss, student, target, source="data", given=given, name=name, **smoothing)


def added(parts: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of the parts, and they without a gradient."""
    first, *rest = parts.values()
    return sum(rest, start=first), {name: value.detach() for name, value in parts.items()}


def flatten(weight: Weight, term: Objective) -> list[tuple[Weight, Objective]]:
    """A term as (weight, term), a sum as its own terms with their weights multiplied."""
    if not isinstance(term, Objective):
        raise TypeError(f"only objectives add up, got {type(term).__name__}")
    if not isinstance(term, Sum):
        return [(weight, term)]
    relative = any(isinstance(dial, Dial) for dial, _ in term.weighted())
    return [(multiplied(dial, weight, relative), inner) for dial, inner in term.weighted()]


def textbook(pairs: Sequence[tuple[Dial | Factor, Objective]]) -> Textbook | None:
    """The first two terms as one, where they are the textbook's."""
    match pairs:
        case [
            (Dial(fixed=True) as hard, Truth() as labels),
            (Dial(fixed=True) as soft, Match() as teacher),
            *_,
        ]:
            plain = labels.says(losses.cross_entropy) and teacher.says(losses.kl, "temperature")
            if plain and labels.ours == teacher.ours:
                return Textbook(hard, labels, soft, teacher)
    return None


def multiplied(dial: Dial | Factor, weight: Weight, relative: bool) -> Weight:
    """`weight` times a dial's setting; a balance stays where its `relative` is multiplied too."""
    found = product(weight, dial.setting)
    return dial.setting if relative and isinstance(dial, Factor) else found


def title(function: Loss) -> str:
    """A function's name; of a module or another callable, its type's."""
    return function.__name__ if inspect.isroutine(function) else type(function).__name__


def check_options(loss: Callable[..., Any], options: Iterable[str]) -> None:
    """Raises LimbeckError for a keyword that `loss` does not take."""
    known = [p.name for p in inspect.signature(loss).parameters.values() if p.kind != p.VAR_KEYWORD]
    for option in options:
        if option not in known[2:]:
            raise LimbeckError(
                f"{title(loss)} takes {known[2:]}, got {option!r}{close(option, known[2:])}"
            )


def project(projector: nn.Module, s: Tensor) -> Tensor:
    """The projector's answer, in its own precision."""
    weight = next(projector.parameters(), None)
    return projector(s if weight is None else s.to(weight.dtype))
