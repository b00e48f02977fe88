"""How the answers of a group of students become a target for each of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.ops.torch_state import precisely
from limbeck.ranks import gathered
from limbeck.schemes import peers

Rule = Literal["mean", "naive", "linear", "minlogit", "general"]
Said = Mapping[str, Mapping[str, Tensor]]
RULES: tuple[Rule, ...] = ("mean", "naive", "linear", "minlogit", "general")
BY_LABEL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "naive": peers.naive,
    "minlogit": peers.minlogit,
}


class Teaching(nn.Module):
    """Makes the source `"peers"` of each student from what all students said, detached.

    It may own parameters, which train with the students: a match detaches its source, so their
    objective must read the target by a `Term`.
    """

    reads: Sequence[str] = ()  # signals of every student beside the wanted one
    needs: Sequence[str] = ()  # signals of the data

    def reads_of(self, student: str) -> Sequence[str]:
        """The signals of one student beside the wanted one."""
        return self.reads

    def forward(self, said: Said, want: str, data: Mapping[str, Any]) -> dict[str, Tensor]:
        """For each student that is taught its target, by what all said: by student, by signal."""
        raise TypeError(f"{type(self).__name__} must define forward")


def taught(
    teaching: Teaching, said: Said, wants: Sequence[str], data: Mapping[str, Any]
) -> dict[str, dict[str, Tensor]]:
    """What a teaching tells each student, by signal, in single precision at least."""
    told: dict[str, dict[str, Tensor]] = {name: {} for name in said}
    for want in wants:
        with precisely(next(iter(said.values()))[want]):
            for name, answer in teaching(said, want, data).items():
                told[name][want] = answer
    return told


class Combination(Teaching):
    """A rule of `limbeck.schemes.peers`.

    The mean is that of the other students. The other rules combine all of them, the taught one too,
    so that all have one target. Items without a label (-100) get the mean of all students under
    `naive` and `minlogit`, and do not count in a fit.

    Args:
        rule: `"mean"`, `"naive"`, `"linear"`, `"minlogit"` or `"general"`.
        students: their names, in order.
        temperature: T of the loss that reads the target; means of probabilities depend on it.
        axis: where the classes are; 1 for maps (B, C, H, W).
        target: the labels in the data.
    """

    weights: Tensor

    def __init__(
        self,
        rule: Rule,
        students: Sequence[str],
        *,
        temperature: float = 1.0,
        axis: int = -1,
        target: str = "target",
    ) -> None:
        super().__init__()
        if rule not in RULES:
            raise LimbeckError(f"teach must be 'each' or one of {list(RULES)}, got {rule!r}")
        self.rule, self.students = rule, list(students)
        self.weighs = rule == "general"
        self.temperature, self.axis, self.target = temperature, axis, target
        self.needs = () if rule in ("mean", "general") else (target,)
        if self.weighs:
            equal = torch.full((len(students),), 1 / len(students), dtype=torch.float64)
            self.register_buffer("weights", equal)

    def forward(self, said: Said, want: str, data: Mapping[str, Any]) -> dict[str, Tensor]:
        z = self.stacked(said, want)
        if self.rule == "mean":
            answers = {
                name: peers.mean(z[[j for j in range(len(z)) if j != k]], self.temperature)
                for k, name in enumerate(self.students)
            }
        else:
            answers = dict.fromkeys(self.students, self.combined(z, data))
        return {name: answer.movedim(-1, self.axis) for name, answer in answers.items()}

    def combined(self, z: Tensor, data: Mapping[str, Any]) -> Tensor:
        """One answer of all students' logits (K, ..., C)."""
        if self.weighs:
            return peers.mixed(z, self.weights, self.temperature)
        y = labels(data[self.target], z)
        known = y != -100
        if self.rule == "linear":
            return peers.linear(z, self.fitted(z[:, known], y[known]))
        answer = BY_LABEL[self.rule](z, y.where(known, 0))
        return torch.where(known[..., None], answer, peers.mean(z, self.temperature))

    def fitted(self, z: Tensor, y: Tensor) -> Tensor:
        """The students' weights by labelled items (K, N, C); in training by those of all ranks."""
        if torch.is_grad_enabled():
            z, y = gathered(z.movedim(0, 1)).movedim(1, 0), gathered(y)
        return peers.fitted(z, y)

    def stacked(self, said: Said, want: str) -> Tensor:
        """The logits of all students in float32 or better (K, ..., C)."""
        logits = [said[name][want] for name in self.students]
        if len({tuple(z.shape) for z in logits}) > 1:
            shapes = {n: tuple(z.shape) for n, z in zip(self.students, logits, strict=True)}
            raise LimbeckError(
                f"{self.rule!r} combines logits of one shape, but {want!r} is {shapes}; "
                "teach='each' takes what differs"
            )
        z = torch.stack(logits)
        axis = self.axis if self.axis < 0 else self.axis + 1
        return z.to(torch.promote_types(z.dtype, torch.float32)).movedim(axis, -1)

    def weigh(self, batches: Iterable[tuple[Said, str, Tensor]]) -> dict[str, float]:
        """Sets the weights by held-out answers and labels; returns them by name."""
        total, items = torch.zeros((), dtype=torch.float64), 0
        for said, want, target in batches:
            z = self.stacked(said, want)
            known = (y := labels(target, z)) != -100
            count = int(known.sum())
            total = total.to(z.device) + count * peers.covariance(z[:, known], y[known])
            items += count
        if not items:
            raise LimbeckError("weigh needs at least one item with a label, got none")
        self.weights.copy_(peers.balanced(total / items))
        return dict(zip(self.students, self.weights.tolist(), strict=True))


def labels(target: Tensor, z: Tensor) -> Tensor:
    """Class indices beside logits (K, ..., C)."""
    if target.is_floating_point() or target.shape != z.shape[1:-1]:
        raise LimbeckError(
            f"labels must be class indices of shape {tuple(z.shape[1:-1])} beside logits "
            f"{tuple(z.shape[1:])}, got {target.dtype} {tuple(target.shape)}; "
            "mixed labels have no one class: use teach='each' or 'mean'"
        )
    return target
