"""AFD: which layer of the student a layer of the source teaches, by learned attention."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck.losses import pairing
from limbeck.methods.several import Several
from limbeck.signals import Signals


class Queries(nn.Module):
    """Attention of source layers over student layers, from their pooled features.

    a_bij = softmax_j((q_bi . W k_bj + p_i . r_j) / sqrt(d)): q and k linear with batch
    normalisation, k behind a ReLU, W one bilinear map a source layer, p and r learned positions.

    Args:
        student: channels of the student's layers.
        source: channels of the source's.
        width: d of queries and keys.
    """

    def __init__(self, student: Sequence[int], source: Sequence[int], width: int) -> None:
        super().__init__()
        self.shape = (len(student), len(source), width)
        self.queries = nn.ModuleList(normed(channels, width) for channels in source)
        self.keys = nn.ModuleList(
            nn.Sequential(normed(channels, width), nn.ReLU()) for channels in student
        )
        self.bilinear = normed(width, width * len(source))
        self.source_position = nn.Parameter(torch.empty(len(source), width))
        self.student_position = nn.Parameter(torch.empty(len(student), width))
        nn.init.xavier_normal_(self.source_position)
        nn.init.xavier_normal_(self.student_position)

    def forward(self, student: Sequence[Tensor], source: Sequence[Tensor]) -> Tensor:
        """The share of each pair (B, source layers, student layers)."""
        query = torch.stack([f(x) for f, x in zip(self.queries, source, strict=True)], 1)
        key = torch.stack([f(x) for f, x in zip(self.keys, student, strict=True)], 1)
        key = self.bilinear(key.flatten(0, 1)).unflatten(0, key.shape[:2])
        key = key.unflatten(-1, self.shape[1:])
        scores = torch.einsum("bstd,btd->bts", key, query)
        scores = scores + self.source_position @ self.student_position.T
        return (scores / self.shape[2] ** 0.5).softmax(-1)


def normed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs))


class AFD(Several):
    """Every layer of the source teaches the student's layers, as much each as attention says.

    sum_i mean_b sum_j a_bij ||q(s_j) - q(t_i)||^2 / (H_i W_i), q the unit energy map of
    `losses.afd` at the size H_i, W_i of t_i, a the attention of `Queries`, which learns with the
    student. In training a batch
    needs two samples, for its normalisation.

    Args:
        student: names of the student's maps (B, C, H, W).
        theirs: names of the source's; the same unless said. The numbers may differ.
        source: whose.
        width: of queries and keys.
        name: the part's name.

    Raises:
        LimbeckError: a signal that is no map.

    Example:
        >>> AFD(["layer2", "layer3"], ["layer2", "layer4"]).parts()
        ['afd']

    Paper:
        Ji et al., AAAI 2021, arXiv 2102.02973; equal to the authors' code.
    """

    def __init__(
        self,
        student: Sequence[str],
        theirs: Sequence[str] | None = None,
        *,
        source: str = "teacher",
        width: int = 128,
        name: str = "afd",
    ) -> None:
        super().__init__(student, theirs, source, name)
        self.width = width
        self.queries: Queries | None = None

    def prepare(self, signals: Signals) -> None:
        if self.queries is None:
            s, t = self.maps(signals)
            self.queries = Queries([x.shape[1] for x in s], [x.shape[1] for x in t], self.width)
            self.queries.to(s[0].device, s[0].dtype)

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if self.queries is None:
            raise self.unsized()
        s, t = self.maps(signals)
        dtype = self.queries.source_position.dtype
        shares = self.queries(*([x.mean((2, 3)).to(dtype) for x in side] for side in (s, t)))
        ours, theirs = ([pairing.energy(x) for x in side] for side in (s, t))
        pairs = [
            pairing.between(a, b, weight=shares[:, i, j]) / b[0].numel()
            for i, b in enumerate(theirs)
            for j, a in enumerate(ours)
        ]
        return {self.name: torch.stack(pairs).sum()}
