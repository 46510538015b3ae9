"""Torchvision's classifiers on ImageNet-1k, of its first and its second recipe, whose difference the third paper explains.

The names of files and the resizing are those of `torchvision.models`; the tests compare them.
"""

from __future__ import annotations

from farfield.models.zoo.entry import IMAGENET, Entry

PAPER = "DIAG"
# Name, millions of parameters, and the hash in the name of the file of each recipe.
PAIRS = (
    ("mobilenet_v2", 3.505, "b0353104", "7ebf99e0"),
    ("mobilenet_v3_large", 5.483, "8738ca79", "5c1a4163"),
    ("regnet_x_16gf", 54.279, "2007eb11", "ba3796d7"),
    ("regnet_x_1_6gf", 9.19, "e3633e7f", "a12f2b72"),
    ("regnet_x_32gf", 107.812, "9d47f8d0", "6eb8fdc6"),
    ("regnet_x_3_2gf", 15.297, "f342aeae", "7071aa85"),
    ("regnet_x_400mf", 5.496, "adf1edd5", "62229a5f"),
    ("regnet_x_800mf", 7.26, "ad17e45c", "94a99ebd"),
    ("regnet_x_8gf", 39.573, "03ceed89", "2b70d774"),
    ("regnet_y_16gf", 83.59, "9e6ed7dd", "3e4a00f9"),
    ("regnet_y_1_6gf", 11.202, "b11a554e", "0d7bc02a"),
    ("regnet_y_32gf", 145.047, "4dee3f7a", "8db6d4b5"),
    ("regnet_y_3_2gf", 19.436, "b5a9779c", "9180c971"),
    ("regnet_y_400mf", 4.344, "c65dace8", "e6988f5f"),
    ("regnet_y_800mf", 6.433, "1b27b58c", "58fc7688"),
    ("regnet_y_8gf", 39.381, "d0d0e4a8", "dc2b1b54"),
    ("resnet101", 44.549, "63fe2227", "cd907fc2"),
    ("resnet152", 60.193, "394f9c45", "f82ba261"),
    ("resnet50", 25.557, "0676ba61", "11ad3fa6"),
    ("resnext101_32x8d", 88.791, "8ba56ff5", "110c445d"),
    ("resnext50_32x4d", 25.029, "7cdf4587", "1a0047aa"),
    ("wide_resnet101_2", 126.887, "32ee1156", "d733dc28"),
    ("wide_resnet50_2", 68.883, "95faca4d", "9ba9bcbe"),
)
# Of the second recipe's ingredients, published once: name, millions, hash, pixels of the shorter side, interpolation.
SINGLES = (
    ("swin_b", 87.768, "68c6b09e", 238, "bicubic"),
    ("swin_s", 49.606, "5e29d889", 246, "bicubic"),
    ("swin_t", 28.288, "704ceda3", 232, "bicubic"),
    ("vit_b_16", 86.568, "c867db91", 256, "bilinear"),
    ("vit_b_32", 88.224, "d86f8d99", 256, "bilinear"),
    ("vit_l_16", 304.327, "852ce7e3", 242, "bilinear"),
    ("vit_l_32", 306.535, "c7638314", 256, "bilinear"),
)


def _entry(name: str, tag: str, what: str, millions: float, mark: str, resize: int, interpolation: str) -> Entry:
    file = f"{name}-{mark}.pth"
    return Entry(
        what, PAPER, f"torchvision:{name}:{tag}", 1000, f"resize={resize},crop=224,{IMAGENET},interpolation={interpolation}", millions, file,
        f"https://download.pytorch.org/models/{file}", "BSD-3-Clause",
    )  # fmt: skip


def entries() -> dict[str, Entry]:
    """All of them, by name: `resnet50-v1`, `resnet50-v2`, `swin-t`, ..."""
    found = {}
    for name, millions, *marks in PAIRS:
        for version, mark, resize in zip((1, 2), marks, (256, 232), strict=True):
            what = f"torchvision's {name} of the {('first', 'second')[version - 1]} recipe"
            found[f"{name}-v{version}".replace("_", "-")] = _entry(name, f"IMAGENET1K_V{version}", what, millions, mark, resize, "bilinear")
    for name, millions, mark, resize, interpolation in SINGLES:
        found[name.replace("_", "-")] = _entry(name, "IMAGENET1K_V1", f"torchvision's {name}", millions, mark, resize, interpolation)
    return found
