"""SemCKD: every layer of the student chooses its layers of the source, by similarity of samples."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbeck import losses
from limbeck.errors import LimbeckError
from limbeck.methods.several import Several
from limbeck.signals import Signals


class SemCKD(Several):
    """Every layer of the student learns all layers of the source, as much each as it chooses.

    1/S sum_j sum_i mean_b a_bji hint(r_ji(s_j), t_i)_b, S the number of student layers, r a
    regressor a pair, a the softmax over source layers i of the products of unit vectors that two
    perceptrons make of row b of F F', the similarities of sample b with its batch. The smaller map
    of a pair sets its size.

    Args:
        student: names of the student's maps (B, C, H, W).
        theirs: names of the source's; the same unless said. The numbers may differ.
        batch: the largest batch there is. The authors' perceptrons take exactly this many
            similarities; those that a smaller batch lacks are 0 here.
        source: whose.
        name: the part's name.

    Raises:
        LimbeckError: a signal that is no map, a larger batch.

    Example:
        >>> SemCKD(["layer2", "layer3"], ["layer3", "layer4"]).parts()
        ['semckd']

    Paper:
        Chen et al., "Cross-layer distillation with semantic calibration", AAAI 2021,
        arXiv 2012.03236. The authors' code has the 1/S of this, the paper has not.
    """

    def __init__(
        self,
        student: Sequence[str],
        theirs: Sequence[str] | None = None,
        *,
        batch: int = 64,
        source: str = "teacher",
        name: str = "semckd",
    ) -> None:
        super().__init__(student, theirs, source, name)
        self.batch = batch
        self.queries = nn.ModuleList(perceptron(batch) for _ in self.student)
        self.keys = nn.ModuleList(perceptron(batch) for _ in self.theirs)
        self.regressors: nn.ModuleList | None = None

    def prepare(self, signals: Signals) -> None:
        if self.regressors is None:
            s, t = self.maps(signals)
            pairs = [(a.shape[1], b.shape[1]) for a in s for b in t]
            self.regressors = nn.ModuleList(regressor(*pair) for pair in pairs)
            self.to(s[0].device, s[0].dtype)

    def forward(self, signals: Signals) -> dict[str, Tensor]:
        if self.regressors is None:
            raise self.unsized()
        s, t = self.maps(signals)
        shares, regressors = self.shares(s, t), iter(self.regressors)
        pairs = [
            losses.hint(*alike(a, b, next(regressors)), weight=shares[:, j, i])
            for j, a in enumerate(s)
            for i, b in enumerate(t)
        ]
        return {self.name: torch.stack(pairs).sum() / len(s)}

    def shares(self, s: Sequence[Tensor], t: Sequence[Tensor]) -> Tensor:
        """a (B, student layers, source layers)."""
        q, k = (
            torch.stack([F.normalize(f(self.similarities(x, f)), dim=-1) for f, x in pairs], 1)
            for pairs in (
                zip(self.queries, s, strict=True),
                zip(self.keys, t, strict=True),
            )
        )
        return (q @ k.mT).softmax(-1)

    def similarities(self, f: Tensor, reader: nn.Module) -> Tensor:
        """F F' (B, batch), in the precision of who reads it."""
        if len(f) > self.batch:
            raise LimbeckError(
                f"{self.name}: a batch must have at most {self.batch} samples, got {len(f)}; "
                f"give batch={len(f)}"
            )
        rows = f.flatten(1)
        dtype = next(reader.parameters()).dtype
        return F.pad(rows @ rows.T, (0, self.batch - len(f))).to(dtype)


def perceptron(batch: int) -> nn.Module:
    """From a sample's similarities to a quarter as many numbers."""
    width = max(batch // 4, 1)
    return nn.Sequential(nn.Linear(batch, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))


def regressor(student: int, source: int) -> nn.Module:
    """Three convolutions from the student's channels to the source's."""
    middle = 2 * source
    return nn.Sequential(
        nn.Conv2d(student, middle, 1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, middle, 3, padding=1, bias=False),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.Conv2d(middle, source, 1, bias=False),
    )


def alike(s: Tensor, t: Tensor, regressor: nn.Module) -> tuple[Tensor, Tensor]:
    """The student's map as the source's channels see it, and the source's, at the smaller size."""
    size = (min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3]))
    s, t = (F.adaptive_avg_pool2d(x, size) for x in (s, t))
    return regressor(s.to(next(regressor.parameters()).dtype)).to(s.dtype), t
