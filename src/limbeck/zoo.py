"""Small networks for demonstrations and benchmarks."""

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(classes: int, hidden: int = 64, channels: int = 1, size: int = 28) -> nn.Sequential:
    """One hidden layer on the pixels of an image."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size * size, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def small_cnn(classes: int, width: int = 16, channels: int = 1) -> nn.Sequential:
    """Three convolutions with batch norm, two halvings, a global mean, a linear layer."""
    return nn.Sequential(
        conv_bn(channels, width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        conv_bn(width, 2 * width),
        nn.ReLU(),
        nn.MaxPool2d(2),
        conv_bn(2 * width, 2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, classes),
    )


def conv_bn(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """A convolution without bias and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = conv_bn(inputs, outputs, stride=stride)
        self.second = conv_bn(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_bn(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


class ResNet(nn.Module):
    """The residual network for 32-pixel images: three stages, each half the size of the last."""

    def __init__(self, blocks: int, widths: tuple[int, int, int, int], classes: int) -> None:
        super().__init__()
        self.stem = conv_bn(3, widths[0])
        inputs = widths[0]
        self.layer1, inputs = stage(blocks, inputs, widths[1], 1), widths[1]
        self.layer2, inputs = stage(blocks, inputs, widths[2], 2), widths[2]
        self.layer3 = stage(blocks, inputs, widths[3], 2)
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def stage(blocks: int, inputs: int, outputs: int, stride: int) -> nn.Sequential:
    rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(inputs, outputs, stride), *rest)


def resnet20(classes: int = 10) -> ResNet:
    """20 layers, 0.27 million parameters."""
    return ResNet(3, (16, 16, 32, 64), classes)


def resnet8x4(classes: int = 10) -> ResNet:
    """8 layers of four times the width, 1.2 million parameters."""
    return ResNet(1, (32, 64, 128, 256), classes)


def resnet32x4(classes: int = 10) -> ResNet:
    """32 layers of four times the width, 7.4 million parameters."""
    return ResNet(5, (32, 64, 128, 256), classes)
