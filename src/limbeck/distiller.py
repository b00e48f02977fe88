"""The distiller: a student, its sources and its objective in one module."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.parameter import is_lazy

from limbeck.dials import Dial
from limbeck.errors import LimbeckError, close
from limbeck.modes import eagerly, evaluating, is_compiled, restored
from limbeck.objective import Match, Objective, Sum, added
from limbeck.ops.torch_state import autocasting, precisely
from limbeck.ranks import mean_of_ranks, several_ranks, spare_ddp
from limbeck.reader import Reader
from limbeck.signals import Batch, Signals, Step
from limbeck.sources import Ema, Frozen, Recorded, Source, as_source
from limbeck.sources.several import inside
from limbeck.taps import plain

Teacher = nn.Module | Reader | Source
ONE_STUDENT = (
    "each rank trains a student of its own with OtherRanks, but DDP or FSDP would make them one; "
    "call the distiller itself"
)
UNPREPARED = (
    "compiled code hides in-place operations from taps; "
    "call distiller.prepare(inputs) once before training"
)


class Distiller(nn.Module):
    """Trains `student` on `objective`, with `sources` that teach.

    `step = distiller(inputs, target=...)` runs the student once and each source that the objective
    reads once, and returns `Step(loss, output, parts)`. Parameters and state are those of the
    student and of the objective (projectors); sources are in neither.

    Args:
        student: the module to train, or a `Reader` that adapts its inputs and names its signals.
        sources: a teacher (then named `"teacher"`), or several by name; a plain module is `Frozen`.
        objective: a sum of matches.

    Raises:
        LimbeckError: a signal or a source that does not exist, a teacher that is the student.

    Example:
        >>> from limbeck import Match, losses, truth
        >>> student, teacher = nn.Linear(4, 3), nn.Linear(4, 3)
        >>> distiller = Distiller(student, teacher, 0.5 * truth() + 0.5 * Match(losses.kl))
        >>> step = distiller(torch.ones(2, 4), target=torch.tensor([0, 1]))
        >>> sorted(step.parts), bool(torch.isclose(sum(step.parts.values()), step.loss))
        (['kl', 'truth'], True)
    """

    # Tells the Hugging Face Trainer that `**data` takes no item count, so that it divides the loss
    # of each micro-batch itself when it accumulates gradients.
    accepts_loss_kwargs = False

    def __init__(
        self,
        student: nn.Module | Reader,
        sources: Teacher | Mapping[str, Teacher],
        objective: Objective,
    ) -> None:
        super().__init__()
        self.reader = student if isinstance(student, Reader) else Reader(student)
        self.student = plain(self.reader.model)
        self.objective = objective
        named = sources if isinstance(sources, Mapping) else {"teacher": sources}
        self.sources = {name: as_source(name, source) for name, source in named.items()}
        self.wants = self.collect()
        self.taps = self.reader.attach(self.wants["student"]).taps
        asked = [name for name in self.sources if self.wants[name]]
        self.early = [name for name in asked if self.sources[name].early]
        self.late = [name for name in asked if not self.sources[name].early]
        self.moving = [name for name in asked if self.sources[name].moves]
        self.apart = any(source.apart for source in self.sources.values())
        self.optional = self.left_out_at_times()
        self.prepared = self.advanced = False
        self.scheduled = [m for m in objective.modules() if isinstance(m, Dial) and not m.advanced]
        self.steered = bool(self.moving or self.scheduled)
        self.watched = bool(self.steered or self.taps)
        self.matches = [m for m in objective.modules() if isinstance(m, Match)]
        self.matched = list(dict.fromkeys(match.ours for match in self.matches))
        for match in self.matches:
            match.detaches = not (
                match.source in self.sources and self.sources[match.source].through
            )
        self.balanced = [m for m in objective.modules() if isinstance(m, Sum) and m.factors()]
        self.check_models()
        self.check_balances()

    @property
    def students(self) -> dict[str, nn.Module]:
        """The plain student by name, as a group of several has them."""
        return {"student": self.student}

    @property
    def readers(self) -> dict[str, Reader]:
        """The student's reader by name."""
        return {"student": self.reader}

    def collect(self) -> dict[str, list[str]]:
        """The signals wanted of each source, each once, all known to exist."""
        sources = ["student", "data", *self.sources]
        if len(sources) != len(set(sources)):
            raise LimbeckError("'student' and 'data' are sources already; name yours otherwise")
        wants: dict[str, list[str]] = {source: [] for source in sources}
        for source, name in self.objective.needs():
            if source not in wants:
                raise LimbeckError(
                    f"the objective reads from {source!r}, but the sources are {sources}"
                    f"{close(source, sources)}"
                )
            if name not in wants[source]:
                wants[source].append(name)
        self.reader.attach(wants["student"])
        for name, source in self.sources.items():
            source.check(wants[name])
            wants["student"] += source.reads(wants[name])
        wants["student"] = list(dict.fromkeys(wants["student"]))
        self.reader.attach(wants["student"])
        return wants

    def left_out_at_times(self) -> dict[str, list[Objective]]:
        """The terms that read each teacher of which a step may not need an answer.

        Such teachers are frozen, and none where another kind of source might read them.
        """
        whole = self.objective
        terms = [term for _, term in whole.weighted()] if isinstance(whole, Sum) else [whole]
        turns = any(type(term).silent is not Objective.silent for term in terms)
        deaf = all(isinstance(source, Frozen | Recorded) for source in self.sources.values())
        still = [name for name in self.early if name not in self.moving] if turns and deaf else []
        return {
            name: [term for term in terms if name in {whose for whose, _ in term.needs()}]
            for name in still
        }

    def idle(self) -> set[str]:
        """The teachers that nothing in this step needs."""
        found = self.optional.items()
        return {name for name, terms in found if all(term.silent() for term in terms)}

    def check_models(self) -> None:
        """Refuses models that would mix up signals, and a student that teaches itself."""
        teachers = {name: source.modules() for name, source in self.sources.items()}
        for model in (self.reader.model, *(m for models in teachers.values() for m in models)):
            if isinstance(model, nn.DataParallel):
                raise LimbeckError(
                    "a model must not be in DataParallel, which mixes up signals; "
                    "wrap the distiller in DDP instead"
                )
        for name, models in teachers.items():
            check_whole(name, models)
            if any(plain(model) is self.student for model in models):
                raise LimbeckError(
                    f"source {name!r} is the student itself: no gradient would reach the student; "
                    "pass another model or a copy"
                )
        averages = {
            each: name
            for name, source in self.sources.items()
            for each in inside(source)
            if isinstance(each, Ema)
        }
        for average, name in averages.items():
            if average.student is not self.student:
                raise LimbeckError(
                    f"source {name!r} is the average of another model than the student, so that "
                    "it would never move; pass Ema(student)"
                )

    def check_balances(self) -> None:
        """Refuses a sum in which nothing has a size of its own."""
        for terms in self.balanced:
            if len(terms.factors()) == len(terms.weighted()):
                raise LimbeckError(
                    f"{terms.parts()} must have a term to be balanced with, but all are balanced; "
                    "give one of them a weight"
                )

    def forward(
        self, inputs: Any, *, share: Mapping[str, float | Tensor] | None = None, **data: Any
    ) -> Step:
        """One step's loss, the student's output and the parts of the loss.

        Args:
            inputs: called as `model(x)`, `model(*x)` or `model(**x)`, by kind.
            share: factor of each part, for one piece of a larger batch: its `items` over all items.
            data: labels, masks, ids, ...: the signals of the source `"data"`.
        """
        training = torch.is_grad_enabled()
        if training and (self.watched or several_ranks()):
            self.check_training()
        output, signals = self.gather(inputs, data, self.idle() if self.optional else ())
        if training:
            self.check_gradients(signals)
        return self.score(output, signals, share)

    def gather(
        self, inputs: Any, data: Mapping[str, Any], without: Collection[str] = ()
    ) -> tuple[Any, Signals]:
        """The student's output, and the signals of all sources but some."""
        for name in self.wants["data"]:
            if name not in data:
                raise LimbeckError(
                    f"the objective reads {name!r} from the data, got {sorted(data)}; "
                    f"call distiller(inputs, {name}=...){close(name, data)}"
                )
        batch = Batch(inputs, data)
        signals = Signals(data=data)
        for name in self.early:
            if name not in without:
                signals[name] = self.sources[name](batch, signals, self.wants[name])
        output, signals["student"] = self.reader.read(
            self.reader.adapt(inputs), self.wants["student"]
        )
        for name in self.late:
            signals[name] = self.sources[name](batch, signals, self.wants[name])
        return output, signals

    def score(
        self, output: Any, signals: Signals, share: Mapping[str, float | Tensor] | None = None
    ) -> Step:
        """The step that these signals make."""
        if autocasting():  # losses see float32 nevertheless
            with precisely(next(iter(signals["student"].values()), torch.empty(0))):
                loss, parts = self.weighed(signals, share)
        else:
            loss, parts = self.weighed(signals, share)
        return Step(loss, output, parts)

    def weighed(
        self, signals: Signals, share: Mapping[str, float | Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and its parts without a gradient."""
        if share is None:
            return self.objective.total(signals)
        parts = self.objective.forward(signals)
        return added({name: share[name] * value for name, value in parts.items()})

    def prepare(self, inputs: Any, **data: Any) -> None:
        """Sizes projectors, balances terms and checks every signal, by dry runs without a trace.

        Comes before the optimizer, compiling, DDP and FSDP, which must see the projectors. What was
        sized or balanced before stays as it is.

        Raises:
            LimbeckError: shapes that do not fit, a tap that is overwritten, a compiled student, a
                balance that cannot be found.
        """
        if is_sharded(self) or is_compiled(self.student):
            raise LimbeckError("call prepare before compiling and before wrapping the distiller")
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
        states = {name: source.state_dict() for name, source in self.sources.items()}
        with torch.no_grad(), torch.random.fork_rng(devices), eagerly(), restored(self.student):
            with evaluating(self.student):
                output, signals = self.gather(inputs, data)
            self.objective.prepare(signals)
            self.balance(inputs, data)
            with evaluating(self.objective), restored(self.objective):
                self.score(output, signals)
        for name, state in states.items():
            self.sources[name].load_state_dict(state)
        spare_ddp(self)
        self.prepared = True

    def balance(self, inputs: Any, data: Mapping[str, Any]) -> None:
        """Finds the factors that are not known yet, the models in the modes that they are in."""
        unknown = [s for s in self.balanced if not all(factor.known for factor in s.factors())]
        if not unknown:
            return
        with restored(self.objective):
            _, signals = self.gather(inputs, data)
            values = [terms.first_values(signals) for terms in unknown]
        for terms, seen in zip(unknown, values, strict=True):
            terms.balance(seen if self.apart else mean_of_ranks(seen))

    def advance(self, progress: float) -> None:
        """Moves schedules and sources to `progress` in [0, 1]; call before each step."""
        if self.moving:
            self.advanced = True
        self.objective.advance(progress)
        for source in self.sources.values():
            source.advance(progress)

    def items(self, batch: int, **data: Any) -> dict[str, Tensor]:
        """How many items each part averages over in a batch of `batch` rows."""
        counted = self.objective.items(data)
        return {name: counted.get(name, torch.tensor(batch)) for name in self.objective.parts()}

    def check_training(self) -> None:
        """Refuses what would train wrongly and in silence."""
        if self.steered:
            self.check_advanced()
        if self.taps and not self.prepared and self.compiled():
            if torch.compiler.is_compiling():  # leave the graph, or the error is lost with it
                torch._dynamo.graph_break(msg=UNPREPARED)
            raise LimbeckError(UNPREPARED)
        if several_ranks() and (self.apart or not is_sharded(self)):
            self.check_ranks()

    def check_advanced(self) -> None:
        """Refuses schedules and sources that would stand still."""
        fault = ""
        if not all(dial.advanced for dial in self.scheduled):
            fault = "the objective follows a schedule"
        elif self.moving and not self.advanced:
            fault = f"source {self.moving[0]!r} changes with training"
        if fault:
            raise LimbeckError(
                f"{fault}, but advance was never called; call "
                "distiller.advance(progress) before each step, from 0.0 to 1.0"
            )

    def check_ranks(self) -> None:
        """Refuses gradients that DDP would not exchange, or should not."""
        wrapper = DistributedDataParallel._active_ddp_module
        if self.apart:
            if wrapper is not None or is_sharded(self):
                raise LimbeckError(ONE_STUDENT)
            return
        if wrapper is None:
            raise LimbeckError(
                "the distiller was called outside its DDP or FSDP wrapper, so that gradients would "
                "differ between ranks; call the wrapper, not wrapper.module"
            )
        synchronised = {id(parameter) for parameter in wrapper._module_parameters}
        if any(id(p) not in synchronised for p in self.objective.parameters() if p.requires_grad):
            raise LimbeckError(
                "a projector was made after wrapping, so that ranks would train it apart; "
                "call distiller.prepare(inputs) before DDP"
            )

    def check_gradients(self, signals: Signals) -> None:
        """Refuses a match that cannot teach: its student signal has no gradient path."""
        for whose, name in self.matched:
            if not signals[whose][name].requires_grad:
                self.check_frozen([m for m in self.matches if m.ours == (whose, name)])

    def check_frozen(self, matches: Iterable[Match]) -> None:
        """Refuses matches of what does not train, but for those that warm a projector up."""
        for match in matches:
            if not self.warms_up(match):
                raise LimbeckError(
                    f"{match.name}: no gradient reaches the student through {match.student!r}; "
                    "checkpoint with use_reentrant=False, or match a layer that trains"
                )

    def warms_up(self, match: Match) -> bool:
        """Whether the match trains a projector on what is frozen, as a whole, in the student."""
        if match.projector is None:
            return match.factory is not None  # which has no size yet
        path = self.reader.names.get(match.student, match.student)
        tapped = next((tap.module for tap in self.taps if tap.name == path), self.student)
        place = tapped if any(True for _ in tapped.parameters()) else self.student
        return trains(match.projector) and not trains(place)

    def compiled(self) -> bool:
        """Whether the student runs compiled: in place, in a wrapper, or with the distiller."""
        return (
            is_compiled(self.student)
            or is_compiled(self.reader.model)
            or torch.compiler.is_compiling()
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Distiller":
        """Sources follow to another device, never to another precision or to empty weights."""
        super()._apply(fn, recurse)
        for source in self.sources.values():
            for module in source.modules():
                here = next(module.parameters(), torch.empty(0)).device
                there = fn(torch.empty(0, device=here)).device
                if there not in (here, torch.device("meta")):
                    source.to(there)
        return self


def check_whole(source: str, models: Iterable[nn.Module]) -> None:
    """Refuses a teacher that another engine holds in parts, as ZeRO-3 does what it initialises."""
    for name, weight in (pair for model in models for pair in model.named_parameters()):
        if not is_lazy(weight) and (weight.numel() == 0 or weight.is_meta):
            raise LimbeckError(
                f"{name} of source {source!r} must hold values, got none of shape "
                f"{tuple(weight.shape)}: weights that an engine such as ZeRO-3 holds in parts, or "
                "that were never loaded; build the teacher outside of the engine's init context"
            )


def trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 has taken the module over."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)
