"""OKDDip: peers that weigh one another by attention, and a leader that all of them teach."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.dials import Weight
from limbeck.errors import LimbeckError
from limbeck.objective import Match, Objective, Sum, Term, flatten, truth
from limbeck.reader import Reader
from limbeck.schemes.mutual import Mutual
from limbeck.schemes.taught import PEERS
from limbeck.schemes.teaching import Said, Teaching
from limbeck.signals import Signals


class Attention(Teaching):
    """Every peer has a target of its own, a leader the mean of all peers.

    t_a = sum_b softmax_b(q(h_a) . k(h_b)) z_b over the peers b, a itself among them; q and k are
    linear maps of pooled features h, the same for all peers; t_leader = mean_b z_b. Features and
    logits are detached, while q and k learn from the targets: an objective must read these by a
    `Term`, as `okddip` does, or be made `attentive`.

    Args:
        leader: the student that learns from the peers and teaches none; its features are not read.
        features: the signal with the last features: (B, D), maps (B, D, H, W) or tokens (B, N, D).
        width: D, the same for all peers.
        inner: width of q and k.

    Raises:
        LimbeckError: features of another width, a leader that is no student.
    """

    def __init__(self, leader: str, features: str, width: int, inner: int | None = None) -> None:
        super().__init__()
        self.leader, self.features, self.reads = leader, features, [features]
        inner = inner or max(1, width // 8)
        self.query = nn.Linear(width, inner, bias=False)
        self.key = nn.Linear(width, inner, bias=False)

    def reads_of(self, student: str) -> Sequence[str]:
        return () if student == self.leader else self.reads

    def forward(self, said: Said, want: str, data: Mapping[str, Any]) -> dict[str, Tensor]:
        if self.leader not in said:
            raise LimbeckError(f"leader must be one of {list(said)}, got {self.leader!r}")
        peers = [name for name in said if name != self.leader]
        logits = torch.stack([said[name][want] for name in peers], 1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        h = torch.stack([self.pooled(said[name][self.features], name) for name in peers], 1)
        shares = (self.query(h) @ self.key(h).mT).softmax(-1).to(logits)
        targets = dict(zip(peers, torch.einsum("nab,nbc->anc", shares, logits), strict=True))
        return targets | {self.leader: logits.mean(1)}

    def pooled(self, h: Tensor, name: str) -> Tensor:
        """Features (B, D) in the precision of the maps."""
        h = h.mean((2, 3)) if h.ndim == 4 else h.mean(1) if h.ndim == 3 else h
        if h.shape[-1] != self.query.in_features:
            raise LimbeckError(
                f"the features {self.features!r} of {name!r} are {h.shape[-1]} wide, but width is "
                f"{self.query.in_features}; peers of different widths need another signal"
            )
        return h.to(self.query.weight.dtype)


def width_of(h: Tensor) -> int:
    """How wide features are: channels of maps, else the last axis."""
    return h.shape[1] if h.ndim == 4 else h.shape[-1]


class Attentive(Match):
    """A match whose target may learn: that of peers, from whose answers no gradient goes on."""

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        s, t = self.sides(signals)
        try:
            return {self.name: self.loss(s, t, **self.keywords(signals))}
        except ValueError as error:
            raise self.mismatch(s, t, error) from error


def attentive(objective: Objective) -> Sum:
    """An objective whose matches with the peers' output let `Attention` learn.

    >>> taught = attentive(truth() + Match(losses.kl, source="peers"))
    >>> [type(term).__name__ for _, term in taught.weighted()]
    ['Truth', 'Attentive']
    """
    return Sum((weight, learning(term)) for weight, term in flatten(1.0, objective))


def learning(term: Objective) -> Objective:
    """A match with the peers as one of which attention learns; any other term as it is."""
    if not isinstance(term, Match) or term.source != PEERS:
        return term
    moving: dict[str, Any] = {key: dial.setting for key, dial in term.dials.items()}
    return Attentive(
        term.loss,
        term.student,
        term.theirs,
        source=PEERS,
        given=term.given,
        name=term.name,
        **term.options,
        **moving,
    )


def okddip(
    students: Mapping[str, nn.Module | Reader],
    *,
    leader: str,
    features: str,
    width: int,
    temperature: float = 3.0,
    weight: Weight = 1.0,
) -> Mutual:
    """Online distillation with diverse peers: attention among the peers, then a leader to ship.

    CE(z_a) + weight * T^2 KL(softmax(t_a / T) || softmax(z_a / T)), summed over the students, with
    the targets t of `Attention`. `students[leader]` is what the training is for.

    Args:
        students: three or more by name.
        leader, features, width: as in `Attention`.
        temperature: T.
        weight: of what the group teaches; a schedule ramps it up.

    Raises:
        LimbeckError: as `Mutual` and `Attention`.

    Example:
        >>> nets = {name: nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)) for name in "abc"}
        >>> mutual = okddip(nets, leader="c", features="0", width=8)
        >>> sorted(mutual(torch.ones(2, 4), target=torch.tensor([0, 1])).parts)
        ['a/kl', 'a/truth', 'b/kl', 'b/truth', 'c/kl', 'c/truth']

    Paper:
        Chen et al., "Online knowledge distillation with diverse peers", AAAI 2020,
        arXiv 1912.00350; T = 3, the weight ramped up over 80 epochs, width / 8 inside. As in the
        authors' code the peers' logits are mixed, where the paper mixes their predictions; their
        code adds 1e-7 to each target probability and lets gradients pass into the peers.
    """
    if len(students) < 3 or leader not in students:
        raise LimbeckError(
            f"there must be a leader and two peers or more, got leader={leader!r} of "
            f"{list(students)}"
        )
    kl = partial(losses.kl, temperature=temperature)
    taught = Term(kl, given={"s": "student:output", "t": "peers:output"}, name="kl")
    attention = Attention(leader, features, width)
    return Mutual(students, truth() + weight * taught, teach=attention)
