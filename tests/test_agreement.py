"""Agreement with another library: scores of pytorch-ood 0.4.0 on a tiny case, as `python benchmarks/agreement.py --freeze` printed them.

Both are brought to the scale of the literature. The case is made of sines, so that it is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

import farfield as ff
from farfield.detectors import parse

C, D = 4, 6


def sines(rows: int, columns: int, seed: float) -> Tensor:
    """Numbers in [-1, 1] that look random: sin(9 (i + 1)^2 (j + 1) + seed)."""
    i, j = torch.arange(1, rows + 1, dtype=torch.float64)[:, None], torch.arange(1, columns + 1, dtype=torch.float64)
    return (9 * i.square() * j + seed).sin()


def tiny() -> tuple[ff.Outputs, ff.Outputs]:
    """Training samples, all classified rightly, and 12 others; float32. The logits are 3 on the average, so that energies are positive."""
    features, weight = 2 * sines(48, D, 3.0).abs(), sines(C, D, 1.0)
    head = ff.Head(weight, 3 - weight @ features.mean(0))

    def outputs(features: Tensor) -> ff.Outputs:
        logits = head(features)
        return ff.Outputs(logits.float(), features.float(), logits.argmax(1), ff.Head(head.weight.float(), head.bias.float()))

    return outputs(features), outputs(3 * sines(12, D, 4.0).abs())


def as_it_is(scores: Tensor) -> Tensor:
    return scores


@dataclass(frozen=True)
class Line:
    """How a detector is compared: the options of both, our scores on the literature's scale, how near they are to be, and what limits that."""

    tolerance: float
    why: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    literature: Callable[[Tensor], Tensor] = as_it_is


LINES = {
    "msp": Line(1e-6, literature=lambda s: 1 - (-s).exp()),
    "maxlogit": Line(1e-7, why="the same number"),
    "energy": Line(1e-6),
    "entropy": Line(2e-5, why="theirs clips p at 1e-7; small logits", literature=lambda s: -(-s).exp()),
    "gen": Line(1e-6, why="theirs clamps p to [1e-7, 1 - 1e-7]; logits so small that nothing is clamped", literature=lambda s: -(-s).exp()),
    "kl-matching": Line(5e-6, why="theirs is a difference of sums in float32"),
    "gradnorm": Line(1e-6),
    "react+energy": Line(1e-6),
    "dice+energy": Line(1e-6),
    "ash-p+energy": Line(1e-6),
    "ash-b+energy": Line(1e-6),
    "ash-s+energy": Line(2e-6),
    "scale+energy": Line(2e-6),
    "mahalanobis": Line(5e-6, why="float32 inverse in theirs, with 1e-6 on the scatter's diagonal"),
    "mahalanobis++": Line(3e-5, why="as above; 1e-6 is more of a small scatter"),
    "relative-mahalanobis": Line(3e-5, why="as above, and a difference"),
    "relative-mahalanobis++": Line(5e-5, why="as above, and a difference"),
    "knn": Line(2e-6, options={"k": 5}),
    "nnguide": Line(1e-6, options={"k": 5}),
    "vim": Line(1e-4, why="float32 pinv and eigh in theirs"),
    "residual": Line(1e-4, why="float32 pinv and eigh in theirs"),
    "she": Line(1e-6),
    "fdbd": Line(1e-6),
    "nci": Line(1e-6, options={"a": 0.1}),
    # All training samples are classified rightly, since theirs looks at labels alone; float64 logits, since 10,000 is added to distances.
    "openmax": Line(2e-6, why="an optimiser's tolerance in theirs; float64 logits", literature=lambda s: -(-s).sigmoid()),
}


def ours(name: str, train: ff.Outputs, test: ff.Outputs) -> Tensor:
    """Our scores of `test` on the scale of the literature."""
    return LINES[name].literature(parse(name)(train, **LINES[name].options)(test).double())


def difference(scores: Tensor, expected: Tensor) -> float:
    """The largest difference, over the largest size of a score."""
    return float((scores - expected).abs().max() / expected.abs().max())


def wide(outputs: ff.Outputs) -> ff.Outputs:
    """With float64 logits."""
    assert outputs.logits is not None
    return outputs.having(logits=outputs.logits.double())


EXPECTED = """
msp 0.52453685 0.92916846 0.75740176 0.62640464 0.94794524 0.56125599 0.87051553 0.92026871 0.5409497 0.7775144 0.96077609 0.67339516
maxlogit 2.489898 5.5133519 5.3036942 3.1702616 5.3209176 3.8636835 4.08708 5.2390065 1.6834635 3.7482042 5.1902862 2.7539203
energy 3.1351376 5.5868173 5.5815558 3.6380203 5.3743763 4.4412618 4.2257495 5.3220963 2.2978926 3.9998574 5.2302999 3.1493433
entropy -1.0786108 -0.32855213 -0.61039728 -0.78952241 -0.25755584 -1.1224804 -0.50558639 -0.33945736 -0.84878945 -0.74841499 -0.20729308 -0.92859584
gen -3.2188284 -2.8049097 -2.8685527 -3.0246053 -2.7210305 -3.2805924 -2.9509754 -2.7355237 -3.080338 -3.1096735 -2.6565385 -3.1842055
kl-matching -0.1019069 -0.64629436 -0.32114083 -0.24794292 -0.70296878 -0.20451939 -0.38008738 -0.49668452 -0.34513164 -0.36753237 -0.74622381 -0.17900223
gradnorm 6.3009925 14.68851 9.7107925 10.787368 14.163109 7.1017656 14.937225 14.708656 15.779325 12.737215 15.627298 10.264526
react+energy 3.9764166 5.0160499 5.1245127 4.1781077 4.8543444 4.709362 4.3557057 5.4092684 3.2571263 3.7895956 4.5007687 3.8932633
dice+energy 7.9852848 8.3868208 7.9349174 8.032012 7.9067297 8.3786688 8.392458 8.3324194 8.5062456 8.2588406 7.9768143 7.8824091
ash-p+energy 6.4237814 6.821599 6.2176628 6.8498712 6.8920102 6.8936901 6.4216528 8.3329582 6.8674479 6.6204333 6.860321 6.4258475
ash-b+energy 3.8426743 10.370111 10.788228 5.547626 9.3637524 9.1662445 8.1858006 7.8445039 6.241128 11.107518 9.8086786 6.0973325
ash-s+energy 0.87735701 109.92856 42.331055 134.9214 17.286703 24.592766 -2.4787593 73.194199 818.8819 250.01852 110.83763 -3.0119033
scale+energy -70.158707 63.570663 23.216648 -66.741707 42.187721 -70.328072 -26.313389 35.09026 -702.67596 -25.392368 50.117603 -108.06561
mahalanobis -30.456882 -21.099224 -31.952534 -27.947937 -24.561058 -29.266062 -28.761452 -40.055405 -52.826164 -18.258972 -25.523844 -26.544519
mahalanobis++ -14.988101 -4.8972263 -15.950492 -7.3606873 -12.428215 -10.448269 -8.3844614 -24.779234 -5.3636866 -6.6527696 -11.416084 -11.474228
relative-mahalanobis -0.98947048 -0.85233736 -10.065688 -3.4377308 -1.8979669 -0.069597244 -4.2674017 -7.004817 -11.669103 -6.2379942 -4.0684791 -7.1110783
relative-mahalanobis++ -0.18011999 2.2906275 0.11815596 0.1970315 -0.26932812 -1.3820143 0.13806581 -1.6258535 -1.4021062 -1.0888696 -2.5584598 -4.6306787
knn -0.40421453 -0.36444575 -0.37840428 -0.2868702 -0.41753271 -0.45121067 -0.31100014 -0.43846201 -0.21329764 -0.28690223 -0.3959413 -0.34470219
nnguide 15.39101 28.485798 27.515593 18.394875 25.50886 21.922474 20.636644 25.002085 12.094246 20.933332 25.429052 15.657825
vim -7.9232006 -2.8907719 -4.9032016 -6.077734 -4.7206569 -6.7626038 -2.3077092 -5.8190618 -1.9234962 -1.1027629 -5.1475229 -1.2814298
residual -2.3874209 -1.8302544 -2.2635887 -2.0975661 -2.17945 -2.4188392 -1.4105299 -2.4053013 -0.9113695 -1.1016214 -2.2405024 -0.95657408
she 14.993761 16.144354 14.289052 16.65559 13.493947 13.245354 17.330402 16.063807 22.46578 16.74597 14.672792 17.219425
fdbd 0.25047436 0.62893569 0.60103792 0.42697296 0.63740641 0.35269037 0.44074205 0.54694289 0.25781342 0.52587724 0.72906047 0.30164042
nci 0.87416101 2.0932181 1.8613849 1.2188834 1.8837218 1.4478221 1.5717599 1.8081861 1.3667042 1.5886881 1.983479 1.1239046
openmax -0.91851453 -0.99507473 -0.99825032 -0.96626425 -0.99288772 -0.8370275 -0.97605999 -0.99551835 -0.73507404 -0.9682263 -0.98866559 -0.91634897
"""


@pytest.mark.parametrize("row", EXPECTED.split("\n")[1:-1], ids=lambda row: row.split()[0])
def test_as_pytorch_ood(row: str) -> None:
    name, *numbers = row.split()
    train, test = (wide(part) if name == "openmax" else part for part in tiny())
    error = difference(ours(name, train, test), torch.tensor([float(number) for number in numbers], dtype=torch.float64))
    assert error <= LINES[name].tolerance, f"{name} differs by {error:.1e}"


def test_every_line_has_its_numbers() -> None:
    assert [row.split()[0] for row in EXPECTED.split("\n")[1:-1]] == list(LINES)
