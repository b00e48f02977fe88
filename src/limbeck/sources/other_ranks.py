"""The students of other processes as peers: one on each rank, device or machine."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.mixing import mean_of_probabilities
from limbeck.ranks import exchanged, several_ranks
from limbeck.signals import Batch, Signals
from limbeck.sources.source import Source

AXES = 8  # of a signal, at most


class OtherRanks(Source):
    """What the students of the other ranks say of the same batch: codistillation.

    Each rank trains a student of its own, of any architecture, in a distiller of its own that is
    not wrapped in DDP; only signals travel, once a step, without a gradient. All ranks see the same
    samples in the same order, each in its own variation where wished; `ids=` among the data is
    checked. All ranks call their distillers equally often, `prepare` included; evaluate and save
    the student, on each rank its own, not the distiller.

    Of two ranks each hears the other's signal, whatever it is. Of K > 2 each hears logits z of the
    others' mean of probabilities,

    softmax(z / T) = 1/(K-1) sum_{j != r} softmax(z_j / T).

    Args:
        temperature: T of the match that reads it; of no account between two ranks.
        axis: where the classes are; 1 for maps (B, C, H, W).

    Raises:
        LimbeckError: a temperature that is not positive; a single process; ranks whose signals
            differ in shape or whose ids differ; of the distiller, where DDP or FSDP would make one
            student of all.

    Example:
        >>> from limbeck import Distiller, Match, losses, truth
        >>> objective = truth() + Match(losses.kl, source="peers")
        >>> distiller = Distiller(torch.nn.Linear(4, 3), {"peers": OtherRanks()}, objective)
        >>> distiller.apart
        True

    Paper:
        Anil et al., "Large scale distributed neural network training through online distillation",
        ICLR 2018, arXiv 1804.03235, where copies that are some steps old teach; here, as in Zhang
        et al., "Deep mutual learning", CVPR 2018, arXiv 1706.00384, peers are of the same step.
    """

    apart = True

    def __init__(self, temperature: float = 1.0, axis: int = -1) -> None:
        if temperature <= 0:
            raise LimbeckError(f"temperature must be positive, got {temperature}")
        self.temperature, self.axis = temperature, axis

    def __call__(self, batch: Batch, signals: Signals, wants: Sequence[str]) -> Mapping[str, Any]:
        if not several_ranks():
            raise LimbeckError(
                "OtherRanks needs the students of other ranks, got a single process; start "
                "torchrun and call torch.distributed.init_process_group, or use Mutual"
            )
        if "ids" in batch.data:
            alike("ids", batch.data["ids"])
        return {want: self.heard(want, signals.of("student", want).detach()) for want in wants}

    def reads(self, wants: Sequence[str]) -> list[str]:
        return list(wants)

    def heard(self, name: str, own: Tensor) -> Tensor:
        """What the others say of a signal of which this rank's student says `own`."""
        same_shape(name, own)
        said = exchanged(own.contiguous())
        del said[dist.get_rank()]
        if len(said) == 1:
            return said[0]
        equal = own.new_full([len(said)] + [1] * own.ndim, 1 / len(said))
        return mean_of_probabilities(torch.stack(said), equal, self.temperature, self.axis)


def same_shape(name: str, x: Tensor) -> None:
    """Raises LimbeckError on all ranks unless their arrays are of one shape."""
    shape = torch.tensor([*x.shape, *[-1] * (AXES - x.ndim)], device=x.device)
    shapes = [tuple(n for n in other.tolist() if n >= 0) for other in exchanged(shape)]
    if len(set(shapes)) > 1:
        raise LimbeckError(f"{name!r} must be of one shape on all ranks, got {shapes}")


def alike(name: str, x: Tensor) -> None:
    """Raises LimbeckError on all ranks unless they hold the same array."""
    same_shape(name, x)
    first, *others = exchanged(x.contiguous())
    if not all(other.equal(first) for other in others):
        raise LimbeckError(
            f"all ranks must see the same samples in the same order, but {name!r} differ between "
            "them; give each rank the whole batch"
        )
