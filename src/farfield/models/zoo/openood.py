"""OpenOOD's ResNet-18s, under the names of the tensors in its checkpoints."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class Block(nn.Module):
    """`relu(f(x) + shortcut(x))`, `f` two 3 x 3 convolutions with BatchNorm and a ReLU between.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        stride: of the first convolution.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        # Where the width changes, and with it the size, a 1 x 1 convolution; elsewhere nothing, which an empty Sequential is.
        changed = () if inputs == outputs else (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(*changed)
        self.relu = nn.ReLU()

    def forward(self, x: Float[Tensor, "n i h w"]) -> Float[Tensor, "n o h2 w2"]:
        """The maps after it."""
        inner = self.relu(self.bn1(self.conv1(x)))
        out: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))
        return out


class ResNet18x32(nn.Module):
    """ResNet-18 for pictures of 32 x 32 pixels: a 3 x 3 stem without pooling (`resnet18_32x32` in OpenOOD).

    Args:
        classes: how many logits it has.

    >>> import torch
    >>> ResNet18x32(10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Source: He et al., Deep Residual Learning for Image Recognition, CVPR 2016; Zhang et al., OpenOOD v1.5, 2023.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n c"]:
        """The logits."""
        maps = self.relu(self.bn1(self.conv1(x)))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits


def resnet18_224(classes: int) -> nn.Module:
    """ResNet-18 for pictures of 224 x 224 pixels (`resnet18_224x224` in OpenOOD), which is torchvision's.

    >>> resnet18_224(200).fc
    Linear(in_features=512, out_features=200, bias=True)
    """
    from torchvision.models import resnet18

    net: nn.Module = resnet18(weights=None, num_classes=classes)
    return net
