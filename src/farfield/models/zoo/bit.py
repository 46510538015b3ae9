"""BiT's ResNetv2, from timm, with the one number in which timm's differs from Google's and MOS's."""

from __future__ import annotations

from torch import nn

EPSILON = 1e-10  # added to the variance of a filter; timm adds 1e-8, which is seen where filters are small


def bit(size: str, classes: int) -> nn.Module:
    """A pre-activation ResNet with GroupNorm and standardised filters.

    Args:
        size: depth and width, as `101x1`.
        classes: how many logits it has.

    >>> {part.eps for name, part in bit("50x1", 3).named_modules() if name.endswith("conv1")}
    {1e-10}

    Source: Kolesnikov et al., Big Transfer (BiT): General Visual Representation Learning, ECCV 2020.
    """
    import timm

    net: nn.Module = timm.create_model(f"resnetv2_{size}_bit", num_classes=classes)
    return as_published(net)


def as_published(net: nn.Module) -> nn.Module:
    """A ResNetv2 of timm's with `EPSILON` in its standardised convolutions, in place."""
    from timm.layers.std_conv import StdConv2d

    for part in net.modules():
        if isinstance(part, StdConv2d):
            part.eps = EPSILON
    return net
