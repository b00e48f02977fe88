"""A model with exits."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.errors import LimbeckError
from limbeck.exits.bottleneck import Exit, channels_second, fitted
from limbeck.exits.branched import Branched
from limbeck.exits.early import Early, Leaving, NobodyLeft
from limbeck.exits.places import find, is_features
from limbeck.modes import eagerly, evaluating
from limbeck.taps import Taps, describe


class Exits(nn.Module):
    """A model with an exit, a bottleneck and a linear classifier, at each place but the last.

    It returns `{"logits": ..., "exits": [...], "features": [...]}`: what the model returns; the
    logits of each exit; the features of each exit and, last, of the deepest place. All features
    have the deepest one's shape, channels on axis 1: (B, C, H, W) or (B, D, N). The student is
    `model`, which is unchanged: evaluate, save and export that.

    The bottleneck of an exit halves a map by separable 3x3 convolutions, each with batch
    normalisation and ReLU, to the deepest one's size. Of tokens it is a layer normalisation and a
    linear layer. The classifier is a linear layer on the mean over positions.

    Args:
        model: a classifier of images that returns logits (B, classes).
        inputs: a few images, for one pass without a trace that tells all sizes.
        at: places from shallow to deep; those that `find` proposes unless said.

    Raises:
        LimbeckError: fewer than two places, one that does not exist or gives neither a map nor
            tokens, a model of other outputs.

    Example:
        >>> from limbeck.zoo import resnet20
        >>> exits = Exits(resnet20(), torch.zeros(2, 3, 32, 32))
        >>> exits.at
        ['layer1', 'layer2', 'layer3']
        >>> output = exits(torch.zeros(2, 3, 32, 32))
        >>> [tuple(logits.shape) for logits in output["exits"]]
        [(2, 10), (2, 10)]
    """

    def __init__(self, model: nn.Module, inputs: Tensor, at: Sequence[str] | None = None) -> None:
        super().__init__()
        self.model = model
        self.at = find(model, inputs) if at is None else list(at)
        if len(self.at) < 2:
            raise LimbeckError(
                f"exits need at least two places, from shallow to deep, got {self.at}; "
                "the last is the deepest features, and the others have an exit each"
            )
        self.taps = Taps(model, self.at)
        with torch.no_grad(), evaluating(model), eagerly():
            logits, features = self.read(inputs)
        self.check(inputs, logits, features)
        *shallow, deepest = [tuple(f.shape) for f in features]
        self.exits = nn.ModuleList(Exit(shape, deepest, logits.shape[1]) for shape in shallow)
        self.exits.to(features[-1].device, features[-1].dtype).train(model.training)

    def forward(self, x: Tensor) -> dict[str, Any]:
        logits, features = self.read(x)
        answers = [exit(f) for exit, f in zip(self.exits, features[:-1], strict=True)]
        deepest = channels_second(features[-1])
        return {
            "logits": logits,
            "exits": [answer for answer, _ in answers],
            "features": [*(fitted(f, deepest) for _, f in answers), deepest],
        }

    def read(self, x: Tensor) -> tuple[Any, list[Any]]:
        """What the model returns, and what its places do."""
        with self.taps:
            logits = self.model(x)
        seen = self.taps.read()
        return logits, [seen[place] for place in self.at]

    def check(self, x: Tensor, logits: Any, features: Sequence[Any]) -> None:
        """Raises LimbeckError for outputs and places that exits cannot have."""
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise LimbeckError(f"the model must return logits (B, classes), got {describe(logits)}")
        for place, tap, f in zip(self.at, self.taps.taps, features, strict=True):
            whole = not tap.fields and tap.call is None and isinstance(f, Tensor)
            if not whole or not is_features(tuple(f.shape), x):
                raise LimbeckError(
                    f"{place!r} must be a module that gives a map (B, C, H, W) or tokens "
                    f"(B, N, D), got {describe(f)}; name another place"
                )
        deepest = features[-1]
        for place, f in zip(self.at, features, strict=True):
            if f.ndim != deepest.ndim or (f.ndim == 3 and f.shape[1] != deepest.shape[1]):
                raise LimbeckError(
                    f"all places must give maps, or as many tokens, got {tuple(f.shape)} at "
                    f"{place!r} and {tuple(deepest.shape)} at {self.at[-1]!r}"
                )

    @torch.no_grad()
    def early(self, x: Tensor, threshold: float) -> Early:
        """Logits of the first exit that is sure of each image; the others go on to the next.

        An image leaves where its largest probability is at least `threshold`; the model runs on
        with those that are left, and stops where none is. In eval mode, whatever the mode is. The
        places must lie on the model's main path, as stages do: where a shortcut passes a place by,
        images cannot leave there.

        Raises:
            LimbeckError: a threshold outside [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise LimbeckError(f"threshold must be in [0, 1], got {threshold}")
        leaving = Leaving(self.exits, threshold, len(x))
        hooks = [
            tap.module.register_forward_hook(partial(leaving, k))
            for k, tap in enumerate(self.taps.taps[:-1])
        ]
        try:
            with evaluating(self), eagerly():
                leaving.answer(self.model(x), len(self.exits))
        except NobodyLeft:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        return leaving.answers()


def without(model: nn.Module) -> nn.Module:
    """The plain model, which is what ships: of one with exits or branches the model itself."""
    return model.model if isinstance(model, Exits | Branched) else model
