"""A network whose last part is there several times, on one trunk, with a gate."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.exits.split import Piece, split
from limbeck.modes import eagerly, evaluating
from limbeck.taps import describe


class Branched(nn.Module):
    """Several networks of one kind that share what comes before a module, and a gate.

    z = sum_k g_k z_k, g = softmax(gate(trunk(x))), z_k = branch_k(trunk(x)). It returns
    `{"logits": z, "branches": [z_0, z_1, ...]}`. The trunk is the first network's; the first
    network itself, `model`, is the trunk with the first branch, unchanged: evaluate, save and
    export that. `single(k)` is the plain network of another branch.

    The forward is cut where `torch.fx` finds that only the input of the module `at` is read behind
    it, and the pieces are compared with the whole.

    Args:
        models: networks of one kind that begin differently, one for each branch.
        inputs: a few images, for one pass without a trace.
        at: the path of the first module of the branches.
        gate: from the trunk's features to a score for each branch (B, K); the paper's unless given.

    Raises:
        LimbeckError: a single network, a forward that cannot be cut there.

    Example:
        >>> from limbeck.zoo import small_cnn
        >>> nets = [small_cnn(10, 4) for _ in range(3)]
        >>> branched = Branched(nets, torch.rand(2, 1, 28, 28), at="6")
        >>> answer = branched(torch.rand(2, 1, 28, 28))
        >>> tuple(answer["logits"].shape), len(answer["branches"]), branched.model is nets[0]
        ((2, 10), 3, True)

    Paper:
        Lan et al., "Knowledge distillation by on-the-fly native ensemble", NeurIPS 2018,
        arXiv 1806.04606; three branches from the last stage on.
    """

    def __init__(
        self, models: Sequence[nn.Module], inputs: Tensor, at: str, gate: nn.Module | None = None
    ) -> None:
        super().__init__()
        if len(models) < 2:
            raise LimbeckError(f"there must be at least two branches, got {len(models)}")
        self.model, self.at = models[0], at
        self.trunk, self.branch = split(self.model, at)
        check_parts(self.model, self.trunk, self.branch)
        self.others = nn.ModuleList(without_trunk(m, self.trunk, self.branch) for m in models[1:])
        with torch.no_grad(), evaluating(self.model), eagerly():
            features = self.checked(inputs)
        self.gate = gate or gate_on(tuple(features.shape), len(models))
        self.gate.to(features.device, features.dtype)

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = self.trunk(self.model, x)
        logits = [self.branch(each, features) for each in (self.model, *self.others)]
        return {"logits": gated(logits, self.gate(features)), "branches": logits}

    def checked(self, x: Tensor) -> Tensor:
        """The trunk's features; raises LimbeckError where the pieces are not the whole."""
        whole, features = self.model(x), self.trunk(self.model, x)
        if not isinstance(features, Tensor) or features.ndim not in (2, 3, 4):
            raise LimbeckError(
                f"what comes into {self.at!r} must be a map (B, C, H, W), tokens (B, N, D) or "
                f"(B, D), got {describe(features)}"
            )
        before = features.clone()
        pieces = self.branch(self.model, features)
        if not torch.equal(before, features):
            raise LimbeckError(
                f"{self.at!r} changes its input, which the other branches read too; "
                "choose a module before it"
            )
        if not (isinstance(whole, Tensor) and whole.ndim == 2):
            raise LimbeckError(f"the model must return logits (B, classes), got {describe(whole)}")
        if not torch.allclose(pieces, whole, rtol=1e-5, atol=1e-6):
            error = float((pieces - whole).abs().max())
            raise LimbeckError(f"cut at {self.at!r} it answers otherwise, by up to {error:.3g}")
        return features

    def single(self, branch: int) -> nn.Module:
        """A copy of the plain network with the weights of one branch."""
        made = copy.deepcopy(self.model)
        if branch:
            made.load_state_dict(self.others[branch - 1].state_dict(), strict=False)
        return made


def check_parts(model: nn.Module, trunk: Piece, branch: Piece) -> None:
    """Raises LimbeckError for weights that both pieces use, or none."""
    sides = [inside(model, piece) for piece in (trunk, branch)]
    both, every = sides[0] & sides[1], set(model.state_dict(keep_vars=True))
    if both:
        raise LimbeckError(f"{min(both)!r} is used before and behind the cut")
    if sides[0] | sides[1] != every:
        unused = min(every - (sides[0] | sides[1]))
        raise LimbeckError(f"{unused!r} is used in no forward")


def inside(model: nn.Module, piece: Piece) -> set[str]:
    """The names of the weights that a piece uses."""
    return {
        name
        for name in model.state_dict(keep_vars=True)
        if any(name == part or name.startswith(f"{part}.") for part in piece.parts)
    }


def without_trunk(model: nn.Module, trunk: Piece, branch: Piece) -> nn.Module:
    """The network with what its branch uses alone."""
    for part in {*trunk.parts} - {*branch.parts}:
        parent, _, name = part.rpartition(".")
        delattr(model.get_submodule(parent), name)
    return model


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
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *scoring(channels, branches))


def gate_on(shape: tuple[int, ...], branches: int) -> nn.Sequential:
    """The paper's gate on features of a shape; of tokens (B, N, D) it takes the mean.

    >>> tuple(gate_on((2, 5, 16), 3)(torch.ones(2, 5, 16)).shape)
    (2, 3)
    """
    if len(shape) == 4:
        return gate(shape[1], branches)
    mean = [Mean()] if len(shape) == 3 else []
    return nn.Sequential(*mean, *scoring(shape[-1], branches))


class Mean(nn.Module):
    """The mean of tokens (B, N, D)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def scoring(width: int, branches: int) -> list[nn.Module]:
    return [nn.Linear(width, branches), nn.BatchNorm1d(branches), nn.ReLU()]
