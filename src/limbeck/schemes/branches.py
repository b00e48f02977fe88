"""ONE: a trunk with several branches, whose gated ensemble teaches each of them."""

from collections.abc import Sequence

from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.exits.branched import gate as gate
from limbeck.exits.branched import gated
from limbeck.methods.self import one as one


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
        >>> import torch
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
