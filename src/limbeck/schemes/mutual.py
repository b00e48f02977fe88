"""Mutual learning: students that learn at once, each from the others."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from limbeck.distiller import Distiller, is_sharded
from limbeck.errors import LimbeckError
from limbeck.modes import eagerly, evaluating, restored
from limbeck.objective import Objective, Sum
from limbeck.ranks import spare_ddp
from limbeck.reader import Reader
from limbeck.schemes.beside import Sources, beside
from limbeck.schemes.checks import Objectives, by_name, check_data, check_sources, check_students
from limbeck.schemes.hearsay import Peer, Told, telling
from limbeck.schemes.taught import PEERS, taught_by
from limbeck.schemes.teaching import Combination, Rule, Said, Teaching, taught
from limbeck.schemes.views import Inputs, common_inputs, each_inputs
from limbeck.signals import Batch, Signals, Step


class Mutual(nn.Module):
    """Trains several students at once; the source `"peers"` of each is what the others say.

    `step = mutual(inputs, target=...)` runs every student once and returns `Step(loss, output,
    parts)`: the sum of the students' losses, their outputs by name, and the parts of each
    (`"a/truth"`, `"a/kl"`). Peers are detached, so that each student gets the gradient of its own
    loss alone, and one optimizer for all makes the steps that one for each would. Students move at
    the same time; the paper's authors move one after another.

    `teach` says what the peers say:

    - `"each"` of the others teaches, one after another (DML): a match with the peers is one match
      with each of K - 1, at weight 1/(K-1) and with a projector of its own. Any networks and any
      signals; from three students on the parts are `"a/kl:b"`, `"a/kl:c"`.
    - `"mean"`: the others' mean of probabilities (the ensemble of DML's paper).
    - `"naive"`, `"linear"`, `"minlogit"`: one answer of all students, the taught one too, made with
      the labels (KDCL): the student that is closest to the label; the combination of logits that is
      closest to the labels of the batch; class by class the least logit beside the label's.
    - `"general"`: all students' mean of probabilities, with the weights of `weigh` (KDCL).
    - a `Teaching`, such as `Attention` (OKDDip).

    A teacher beside them is asked once a step, for all: whatever its cost, many students learn from
    one forward. Terms read from it as in a distiller.

    Args:
        students: the modules to train by name, or each in a `Reader` that names signals alike.
        objective: of every student, which gets a copy with projectors of its own; or one for each
            by name, which may also read from a peer by its name.
        sources: who teaches beside the peers: a teacher (then named `"teacher"`), or several by
            name, asked once for all students. What is made of one student, such as `Ema` and
            `Past`, comes as one for each: `{"slow": {"a": Ema(a), "b": Ema(b)}}`.
        teach: who says what, as above.
        temperature: T of the match that reads from the peers; means of probabilities depend on it.
        axis: where the classes are; 1 for maps (B, C, H, W).
        target: the labels in the data, for the rules that read them.

    Raises:
        LimbeckError: fewer than two students, names that cannot be, a student twice, a signal that
            a student, a peer or a source does not have, a source of one student for all.

    Example:
        >>> from limbeck import Match, losses, truth
        >>> students = {"a": nn.Linear(4, 3), "b": nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))}
        >>> mutual = Mutual(students, truth() + Match(losses.kl, source="peers"))
        >>> step = mutual(torch.ones(2, 4), target=torch.tensor([0, 1]))
        >>> sorted(step.parts), sorted(step.output)
        (['a/kl', 'a/truth', 'b/kl', 'b/truth'], ['a', 'b'])

    Paper:
        Zhang et al., "Deep mutual learning", CVPR 2018, arXiv 1706.00384 (T = 1, weight 1; the
        authors' code leaves 1/(K-1) out). Guo et al., "Online knowledge distillation via
        collaborative learning", CVPR 2020 (T = 2, weight 1, other augmentation for each).
    """

    accepts_loss_kwargs = False  # as that of a distiller

    def __init__(
        self,
        students: Mapping[str, nn.Module | Reader],
        objective: Objectives,
        *,
        sources: Sources | None = None,
        teach: Literal["each"] | Rule | Teaching = "each",
        temperature: float = 1.0,
        axis: int = -1,
        target: str = "target",
    ) -> None:
        super().__init__()
        readers = {n: s if isinstance(s, Reader) else Reader(s) for n, s in students.items()}
        check_students(readers)
        self.names = list(readers)
        found = beside({} if sources is None else sources, self.names)
        self.sources, self.own = found.all(), found.own
        self.told = {name: Told(source) for name, source in found.shared.items()}
        self.teaching: Teaching | None = None
        if isinstance(teach, Teaching):
            self.teaching = teach
        elif teach != "each":
            self.teaching = Combination(
                teach, self.names, temperature=temperature, axis=axis, target=target
            )
        self.peers = {name: Peer({name: reader}) for name, reader in readers.items()}
        self.group = {name: Peer(readers) for name in readers}
        objectives = by_name(objective, self.names)
        self.distillers = nn.ModuleDict(
            {name: self.member(reader, name, objectives[name]) for name, reader in readers.items()}
        )
        self.combined = self.from_peers()
        self.asked = {name: self.wanted_of(name) for name in self.told}
        self.wants = {name: self.wanted(name) for name in self.names}
        for name, distiller in zip(self.names, self.members(), strict=True):
            distiller.taps = distiller.reader.attach(self.wants[name]).taps  # its peers' too

    def member(self, reader: Reader, name: str, objective: Objective) -> Distiller:
        """A student with its copy of the objective, and its peers as sources."""
        others = {peer: self.peers[peer] for peer in self.names if peer != name}
        teachers = self.told | self.own[name]
        check_sources(name, objective, ["student", "data", PEERS, *others, *teachers])
        peers = list(others) if self.teaching is None else [PEERS]
        group = {} if self.teaching is None else {PEERS: self.group[name]}
        try:
            return Distiller(reader, others | group | teachers, taught_by(objective, peers))
        except LimbeckError as error:
            raise LimbeckError(f"student {name!r}: {error}") from error

    def from_peers(self) -> list[str]:
        """The signals that a teaching makes for any student, each once."""
        wanted = self.wanted_of(PEERS)
        if self.weighs and len(wanted) != 1:
            raise LimbeckError(f"teach='general' weighs one signal of the peers, got {wanted}")
        return wanted

    def wanted_of(self, source: str) -> list[str]:
        """The signals that any student reads of another or of a source, each once."""
        wanted = [want for d in self.members() for want in d.wants.get(source, [])]
        return list(dict.fromkeys(wanted))

    def wanted(self, name: str) -> list[str]:
        """The signals of a student that it, its peers and the teaching read, each once."""
        own = self.distiller(name).wants["student"]
        wanted = [*own, *self.wanted_of(name), *self.combined]
        if self.teaching is not None:
            wanted += self.teaching.reads_of(name)
        return list(dict.fromkeys(wanted))

    @property
    def students(self) -> dict[str, nn.Module]:
        """The plain students by name, to evaluate, save and export."""
        return {name: self.distiller(name).student for name in self.names}

    @property
    def student(self) -> nn.Module:
        """The first student, which stands for the group where one is meant."""
        return self.members()[0].student

    @property
    def reader(self) -> Reader:
        """The first student's reader."""
        return self.members()[0].reader

    @property
    def readers(self) -> dict[str, Reader]:
        """Their readers by name."""
        return {name: self.distiller(name).reader for name in self.names}

    @property
    def objective(self) -> nn.ModuleList:
        """What trains besides the students: their objectives, and the teaching."""
        own: list[nn.Module] = [distiller.objective for distiller in self.members()]
        return nn.ModuleList(own if self.teaching is None else [*own, self.teaching])

    @property
    def balanced(self) -> list[Sum]:
        """The sums of all students whose terms find their weights."""
        return [terms for distiller in self.members() for terms in distiller.balanced]

    @property
    def weighs(self) -> bool:
        """Whether `weigh` is to be called after each epoch."""
        return isinstance(self.teaching, Combination) and self.teaching.weighs

    def distiller(self, name: str) -> Distiller:
        """A student with its objective."""
        return cast("Distiller", self.distillers[name])

    def members(self) -> list[Distiller]:
        return [self.distiller(name) for name in self.names]

    def forward(
        self, inputs: Any, *, share: Mapping[str, float | Tensor] | None = None, **data: Any
    ) -> Step:
        """One step's loss, the students' outputs by name, and the parts of the loss.

        Args:
            inputs: of all students, as for a distiller; or each student's own by name, rows in one
                order, so that each sees another augmentation.
            share: factor of each part, as for a distiller: `items` over all items.
            data: labels, masks, ids, ...: the signals of the source `"data"`.
        """
        training = torch.is_grad_enabled()
        if training:
            self.check_training()
        outputs, signals = self.gather(inputs, data)
        if training:
            for name in self.names:
                self.distiller(name).check_gradients(signals[name])
        return self.score(outputs, signals, share)

    def check_training(self) -> None:
        """As a distiller's; sharded, all are inside one wrapper, which a distiller cannot see."""
        for distiller in self.members():
            if is_sharded(self):
                distiller.check_advanced()
            else:
                distiller.check_training()

    def gather(
        self, inputs: Any, data: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Signals]]:
        """Every student's output, and the signals of all its sources."""
        each = each_inputs(inputs, self.names)
        answers = self.ask(inputs, data)
        outputs, own = self.read(each)
        with self.telling(own, answers, data):
            signals = {name: self.heard(name, each[name], own[name], data) for name in self.names}
        return outputs, signals

    def ask(self, inputs: Any, data: Mapping[str, Any]) -> Signals:
        """What sources say that all students share, each asked once."""
        looking = [
            name for name, wants in self.asked.items() if wants and self.told[name].modules()
        ]
        batch = Batch(common_inputs(inputs, self.names, looking), data)
        signals = Signals(data=data)
        for name, wants in self.asked.items():
            signals[name] = self.sources[name](batch, signals, wants) if wants else {}
        return signals

    def read(self, inputs: Inputs) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]]:
        """Runs every student once: outputs, and the signals that anyone reads."""
        outputs, own = {}, {}
        for name in self.names:
            reader = self.distiller(name).reader
            outputs[name], own[name] = reader.read(reader.adapt(inputs[name]), self.wants[name])
        return outputs, own

    def telling(
        self, own: Said, answers: Said, data: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        """While it lasts, the students know what their peers and those whom all share said."""
        said = {name: {k: x.detach() for k, x in theirs.items()} for name, theirs in own.items()}
        together = self.answers(said, data)
        return telling(
            [
                *((self.peers[name], said[name]) for name in self.names),
                *((self.group[name], together[name]) for name in self.names),
                *((told, answers[name]) for name, told in self.told.items()),
            ]
        )

    def answers(self, said: Said, data: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
        """What the teaching tells each student, by signal."""
        if self.teaching is None:
            return {name: {} for name in self.names}
        check_data(self.teaching.needs, data)
        return taught(self.teaching, said, self.combined, data)

    def heard(
        self, name: str, inputs: Any, own: Mapping[str, Tensor], data: Mapping[str, Any]
    ) -> Signals:
        """All signals of one student's step."""
        distiller, batch = self.distiller(name), Batch(inputs, data)
        check_data(distiller.wants["data"], data)
        signals = Signals(data=data, student=own)
        for source, wants in distiller.wants.items():
            if wants and source in distiller.sources:
                asked = self.sources.get(f"{name}/{source}", distiller.sources[source])
                signals[source] = asked(batch, signals, wants)
        return signals

    def score(
        self,
        outputs: Mapping[str, Any],
        signals: Mapping[str, Signals],
        share: Mapping[str, float | Tensor] | None = None,
    ) -> Step:
        """The step that these signals make."""
        losses, parts = [], {}
        for name in self.names:
            distiller = self.distiller(name)
            own = None
            if share is not None:
                own = {part: share[f"{name}/{part}"] for part in distiller.objective.parts()}
            step = distiller.score(outputs[name], signals[name], own)
            losses.append(step.loss)
            parts |= {f"{name}/{part}": value for part, value in step.parts.items()}
        return Step(torch.stack(losses).sum(), dict(outputs), parts)

    def prepare(self, inputs: Any, **data: Any) -> None:
        """Sizes each student's projectors and checks every signal, as a distiller's `prepare`.

        Raises:
            LimbeckError: as a distiller's.
        """
        each = each_inputs(inputs, self.names)
        states = {name: self.sources[name].state_dict() for name in self.told}
        students = nn.ModuleList(self.students.values())
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
        still = nullcontext() if any(d.balanced for d in self.members()) else evaluating(students)
        with torch.random.fork_rng(devices), torch.no_grad():
            with eagerly(), restored(students), still:
                answers = self.ask(inputs, data)
                _, own = self.read(each)
                told = self.telling(own, answers, data)
            with told:
                for name in self.names:
                    torch.default_generator.manual_seed(int(torch.randint(2**31, ())))
                    self.distiller(name).prepare(each[name], **data)
        for name, state in states.items():
            self.sources[name].load_state_dict(state)
        spare_ddp(self)

    def weigh(self, batches: Iterable[tuple[Any, Tensor]]) -> dict[str, float]:
        """Weighs the students for `teach="general"` by held-out batches; call after each epoch.

        w = argmin w' C w over w >= 0, sum w = 1, C_jk the mean product of the errors that students
        j and k make in their probabilities; equal until then. The paper has the same without
        w >= 0. The weights are saved with the module. On several ranks give all the same batches.

        Args:
            batches: pairs of inputs and labels, which no student is trained on.

        Returns:
            The weights by name.

        Raises:
            LimbeckError: another `teach`, no labels.
        """
        teaching = self.teaching
        if not isinstance(teaching, Combination) or not teaching.weighs:
            raise LimbeckError("only teach='general' has weights to find")
        (want,) = self.combined
        students = nn.ModuleList(self.students.values())
        with torch.no_grad(), evaluating(students):
            said = (
                (self.read(each_inputs(x, self.names))[1], want, target) for x, target in batches
            )
            return teaching.weigh(said)

    def advance(self, progress: float) -> None:
        """Moves schedules and sources to `progress` in [0, 1]; call before each step."""
        for distiller in self.members():
            distiller.advance(progress)
        for name in self.told:
            self.sources[name].advance(progress)

    def items(self, batch: int, **data: Any) -> dict[str, Tensor]:
        """How many items each part averages over in a batch of `batch` rows."""
        return {
            f"{name}/{part}": n
            for name in self.names
            for part, n in self.distiller(name).items(batch, **data).items()
        }
