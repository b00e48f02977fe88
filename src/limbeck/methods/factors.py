"""Factor transfer: a paraphraser puts the source's features in fewer words for the student."""

from itertools import pairwise

from torch import Tensor, nn

from limbeck import losses
from limbeck.hidden import Hidden
from limbeck.projectors import Resize, Shape

SLOPE = 0.1


class Paraphraser(nn.Module):
    """An autoencoder of feature maps, whose code are the factors (B, rate * C, H, W).

    Train it before the student, without labels, on the source's features f: its reconstruction
    error is `losses.hint(paraphraser(f), f)`. Keep it with the source: it is not in the student's
    checkpoints.

    Args:
        channels: C of the source's features.
        rate: factors a channel.

    Example:
        >>> import torch
        >>> paraphraser = Paraphraser(8, rate=0.5)
        >>> f = torch.zeros(2, 8, 4, 4)
        >>> tuple(paraphraser.encoder(f).shape), tuple(paraphraser(f).shape)
        ((2, 4, 4, 4), (2, 8, 4, 4))

    Paper:
        Kim, Park, Kwak, NeurIPS 2018, arXiv 1802.04977.
    """

    def __init__(self, channels: int, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        width = factors(channels, rate)
        self.encoder = stack(channels, channels, width, width)
        self.decoder = stack(width, width, channels, channels)

    def forward(self, f: Tensor) -> Tensor:
        return self.decoder(self.encoder(f))


class Factors(nn.Module):
    """`losses.ft` against the factors that a trained, frozen paraphraser finds."""

    def __init__(self, paraphraser: Paraphraser) -> None:
        super().__init__()
        self.paraphrase = Hidden(paraphraser.encoder)

    def forward(self, s: Tensor, t: Tensor) -> Tensor:
        return losses.ft(s, self.paraphrase(t))


def translator(student: Shape, source: Shape, *, rate: float) -> nn.Module:
    """From the student's channels to as many factors as the source has."""
    if len(student) != 4 or len(source) != 4:
        raise ValueError(f"a translator needs maps (B, C, H, W), got {student} and {source}")
    width = factors(source[1], rate)
    layers = stack(student[1], student[1], width, width)
    if student[2:] != source[2:]:
        layers.append(Resize((source[2], source[3])))
    return layers


def factors(channels: int, rate: float) -> int:
    """How many factors a map of `channels` has."""
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be in (0, 1], got {rate}")
    return max(1, round(channels * rate))


def stack(*channels: int) -> nn.Sequential:
    """3x3 convolutions with batch normalisation and leaky ReLU, from width to width."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
        layers.append(nn.LeakyReLU(SLOPE))
    return nn.Sequential(*layers)
