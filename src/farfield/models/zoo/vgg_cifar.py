"""The VGG11 for pictures of 32 x 32 pixels on which FeatureNorm, and the fourth paper after it, are measured."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

# The eight convolutional stages whose norms FeatureNorm compares: after each ReLU, the fourth after its pooling.
STAGES = tuple(f"features.{index}" for index in (1, 4, 7, 10, 12, 14, 17, 19))


class VGG11(nn.Module):
    """torchvision's `vgg11` features, which leave one pixel of 32, and a classifier of 512 - 512 - classes; no BatchNorm.

    Args:
        classes: how many logits it has.

    >>> import torch
    >>> VGG11(10)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])

    Source: Simonyan & Zisserman, ICLR 2015; Yu et al., Block Selection Method for Using Feature Norm, CVPR 2023.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        from torchvision.models.vgg import cfgs, make_layers

        self.features = make_layers(cfgs["A"])
        self.classifier = nn.Sequential(
            nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5), nn.Linear(512, classes)
        )
        for part in self.features:
            if isinstance(part, nn.Conv2d) and part.bias is not None:
                nn.init.kaiming_normal_(part.weight, mode="fan_out")
                assert part.bias is not None
                nn.init.zeros_(part.bias)

    def forward(self, x: Float[Tensor, "n 3 32 32"]) -> Float[Tensor, "n c"]:
        """The logits."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
