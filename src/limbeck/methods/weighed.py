"""Objectives on the logits of several teachers at once."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.dials import Dial
from limbeck.errors import LimbeckError
from limbeck.methods.several import precise
from limbeck.mixing import mixture
from limbeck.objective import Objective
from limbeck.schedules import Schedule
from limbeck.signals import Signals, split


class Teachers(Objective):
    """Reads the student's logits (B, ..., C) and those of several sources, and gives one part."""

    def __init__(
        self,
        teachers: Sequence[str],
        temperature: float | Schedule,
        student: str,
        theirs: str | None,
        name: str,
    ) -> None:
        super().__init__()
        if isinstance(teachers, str) or not teachers or len({*teachers}) < len(teachers):
            raise LimbeckError(
                f"{name} needs a list of sources, each once, got {teachers!r}; "
                'give their names, such as ["big", "wide"]'
            )
        self.teachers, self.name = list(teachers), name
        self.student, self.theirs = student, theirs or student
        self.temperature = Dial(temperature)

    def needs(self) -> list[tuple[str, str]]:
        return [("student", self.student), *((who, self.theirs) for who in self.teachers)]

    def parts(self) -> list[str]:
        return [self.name]

    def logits(self, signals: Signals) -> tuple[Tensor, Tensor]:
        """The student's (B, ..., C), and the teachers' (K, B, ..., C), detached; float32 or better.

        Raises:
            LimbeckError: shapes that differ.
        """
        s = signals.of("student", self.student)
        t = [signals.of(who, self.theirs).detach() for who in self.teachers]
        for who, z in zip(self.teachers, t, strict=True):
            if z.shape != s.shape:
                raise LimbeckError(
                    f"{self.name}: student {self.student!r} {tuple(s.shape)} against {who} "
                    f"{self.theirs!r} {tuple(z.shape)}: all must have one shape; where classes "
                    "differ, give each teacher a Match with losses.classes"
                )
        return precise(s), torch.stack([precise(z) for z in t])


class Weighed(Teachers):
    """The sum of the teachers' losses, each weighed: T^2 mean_i sum_k w_ki KL(p_ki || q_i).

    It is no source, since the weights may depend on labels and on the student, and since it is the
    losses that are weighed: `Ensemble` mixes probabilities, which with the same weights has the
    same gradient and a smaller value.

    Args:
        teachers: names of sources, in order.
        rule: called as `rule(t, **given)` with the teachers' logits (K, B, ..., C); the weights of
            each item (K, B, ...), or of all (K,), which get no gradient.
        given: further arguments of the rule that are signals: `{"target": "data:target"}`.
        temperature: T of the losses.
        student: the student's logits, classes last.
        theirs: the teachers' signal; the same name unless said.
        name: the part's name.

    Raises:
        LimbeckError: no source, one twice, logits of another shape.

    Example:
        >>> from limbeck.methods.weighting import by_labels
        >>> rule = {"rule": by_labels, "given": {"target": "data:target"}}
        >>> Weighed(["big", "wide"], **rule, name="camkd").parts()
        ['camkd']
    """

    def __init__(
        self,
        teachers: Sequence[str],
        rule: Callable[..., Tensor],
        *,
        given: Mapping[str, str] | None = None,
        temperature: float | Schedule = 4.0,
        student: str = "output",
        theirs: str | None = None,
        name: str,
    ) -> None:
        super().__init__(teachers, temperature, student, theirs, name)
        self.rule, self.given = rule, dict(given or {})

    def needs(self) -> list[tuple[str, str]]:
        return super().needs() + [split(address) for address in self.given.values()]

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        s, t = self.logits(signals)
        given = {key: signals.read(address).detach() for key, address in self.given.items()}
        pairs = zip(t, self.rule(t, **given), strict=True)
        each = [losses.kl(s, z, temperature=self.temperature(), weight=w) for z, w in pairs]
        return {self.name: torch.stack(each).sum()}


class AMTML(Teachers):
    """One loss with the teachers' mixture, whose weights are learned of each sample.

    T^2 mean_i KL(sum_k w_ki p_ki || q_i), w_i = softmax over k of sum_d v_d u_kd a_id: a the
    student's features (B, D), maps by their largest value in each channel, u a latent vector a
    teacher, v the channels' importance. u, v and, through w, the features learn from this loss: the
    weights go to whoever is easiest to follow. v starts at 0, the teachers equal.

    Args:
        teachers: names of sources, in order.
        features: the student's signal that chooses, (B, D) or a map (B, D, H, W).
        temperature, student, theirs, name: as in `Weighed`.

    Raises:
        LimbeckError: as `Weighed`; use before `prepare`.

    Example:
        >>> AMTML(["big", "wide"], "layer4").parts()
        ['amtml']

    Paper:
        Liu et al., "Adaptive multi-teacher multi-level knowledge distillation", Neurocomputing
        2020, arXiv 2103.04062, its soft targets; its hints are a `Match` for each teacher. The
        authors draw v, decay u and v by 0.1, and train both before the student as well.
    """

    latent: nn.Parameter | None
    importance: nn.Parameter | None

    def __init__(
        self,
        teachers: Sequence[str],
        features: str,
        *,
        temperature: float | Schedule = 10.0,
        student: str = "output",
        theirs: str | None = None,
        name: str = "amtml",
    ) -> None:
        super().__init__(teachers, temperature, student, theirs, name)
        self.features = features
        self.latent = self.importance = None

    def needs(self) -> list[tuple[str, str]]:
        return [*super().needs(), ("student", self.features)]

    def prepare(self, signals: Signals) -> None:
        if self.latent is None:
            a = self.pooled(signals)
            self.latent = nn.Parameter(torch.randn(len(self.teachers), a.shape[1]).to(a))
            self.importance = nn.Parameter(torch.zeros_like(a[0]))

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if self.latent is None or self.importance is None:
            raise LimbeckError(f"{self.name}: call distiller.prepare(inputs) first")
        s, t = self.logits(signals)
        scores = (self.latent * self.importance) @ self.pooled(signals).to(self.latent.dtype).T
        log_w = scores.log_softmax(0).to(t).view(*scores.shape, *[1] * (t.ndim - 2))
        temperature = self.temperature()
        together = mixture(t, log_w, temperature)
        return {self.name: losses.kl(s, together, temperature=temperature)}

    def pooled(self, signals: Signals) -> Tensor:
        """The student's features (B, D)."""
        a = precise(signals.of("student", self.features))
        return a.flatten(2).amax(2) if a.ndim == 4 else a
