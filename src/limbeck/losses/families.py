"""What the losses on outputs take these for."""

from limbeck import losses

FILES = ("correlation", "divergences", "logits", "sparse", "standardise", "targets", "transformed")


def in_file(name: str) -> str:
    return getattr(losses, name).__module__.rpartition(".")[2]


SOFTMAX = tuple(name for name in losses.__all__ if in_file(name) in FILES)
SIGMOID = ("binary_cross_entropy", "binary_hard", "binary_kl")
