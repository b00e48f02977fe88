"""ONE: a trunk with several branches, whose gated ensemble teaches each of them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limbeck import losses
from limbeck.dials import Weight
from limbeck.errors import LimbeckError
from limbeck.objective import Match, Objective, Sum, truth


class Branches(nn.Module):
    """One trunk, several branches on it, and a gate that weighs their logits for each sample.

    z = sum_k g_k z_k, g = softmax(gate(trunk(x))), z_k = branch_k(trunk(x)). Returns
    `{"logits": z, "branches": [z_0, z_1, ...]}`; train it as a student on `one`, then ship
    `single(k)`, or the whole as an ensemble.

    Args:
        trunk: from inputs to features, such as all of a network but its last stage.
        branches: from features to logits, two or more.
        gate: from features to a score for each branch (B, K), as `gate` makes one.

    Raises:
        LimbeckError: a single branch.

    Example:
        >>> heads = [nn.Linear(8, 3) for _ in range(3)]
        >>> net = Branches(nn.Linear(4, 8), heads, nn.Linear(8, 3))
        >>> answer = net(torch.ones(2, 4))
        >>> tuple(answer["logits"].shape), len(answer["branches"])
        ((2, 3), 3)
        >>> net.single(0)(torch.ones(2, 4)).equal(answer["branches"][0])
        True

    Paper:
        Lan et al., "Knowledge distillation by on-the-fly native ensemble", NeurIPS 2018,
        arXiv 1806.04606; three branches from the last stage on.
    """

    def __init__(self, trunk: nn.Module, branches: Sequence[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        if len(branches) < 2:
            raise LimbeckError(f"there must be at least two branches, got {len(branches)}")
        self.trunk, self.branches, self.gate = trunk, nn.ModuleList(branches), gate

    def forward(self, x: Tensor) -> dict[str, Tensor | list[Tensor]]:
        features = self.trunk(x)
        logits = [branch(features) for branch in self.branches]
        return {"logits": gated(logits, self.gate(features)), "branches": logits}

    def single(self, branch: int) -> nn.Sequential:
        """The trunk and one branch as a plain model; the parts of the training, not copies."""
        return nn.Sequential(self.trunk, self.branches[branch])


def gated(logits: Sequence[Tensor], scores: Tensor) -> Tensor:
    """sum_k softmax(scores)_k z_k, for logits z_k (B, C) and scores (B, K).

    >>> gated([torch.zeros(1, 2), torch.ones(1, 2)], torch.zeros(1, 2))
    tensor([[0.5000, 0.5000]])
    """
    if scores.shape[-1] != len(logits):
        raise LimbeckError(
            f"the gate must score {len(logits)} branches, got scores {tuple(scores.shape)}"
        )
    shares = scores.softmax(-1)
    return (torch.stack(list(logits), -1) * shares[:, None]).sum(-1)


def gate(channels: int, branches: int) -> nn.Sequential:
    """The paper's gate on maps (B, C, H, W): mean, linear, batch norm, ReLU.

    >>> tuple(gate(16, 3)(torch.ones(2, 16, 8, 8)).shape)
    (2, 3)
    """
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(channels, branches),
        nn.BatchNorm1d(branches),
        nn.ReLU(),
    )


def one(branches: int, *, temperature: float = 3.0, weight: Weight = 1.0) -> Objective:
    """The objective of `Branches`: labels for all, and the ensemble teaches every branch.

    CE(z) + sum_k CE(z_k) + weight * T^2 sum_k KL(softmax(z / T) || softmax(z_k / T)), the ensemble
    detached as a target: the gate learns from the labels alone.

    Args:
        branches: how many there are.
        temperature: T.
        weight: of the ensemble's teaching; a schedule ramps it up.

    Example:
        >>> one(2).parts()
        ['truth', 'truth[0]', 'truth[1]', 'kl[0]', 'kl[1]']

    Paper:
        Lan et al., NeurIPS 2018, arXiv 1806.04606; T = 3, the weight ramped up over 80 of 300
        epochs. The authors' code adds 1e-7 to each target probability.
    """
    names = [f"output.branches.{k}" for k in range(branches)]
    hard = [truth("output.logits")] + [truth(x, name=f"truth[{k}]") for k, x in enumerate(names)]
    soft = [
        Match(
            losses.kl,
            x,
            "output.logits",
            source="student",
            name=f"kl[{k}]",
            temperature=temperature,
        )
        for k, x in enumerate(names)
    ]
    return Sum([(1.0, term) for term in hard] + [(weight, term) for term in soft])
