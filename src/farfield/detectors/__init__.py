"""Every detector and shaper, and the two ways to put them together.

`CATALOGUE` and `SHAPERS` are the whole registry: a class listed here is on the command line, in the benchmark and under the
conformance tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from farfield.detectors import compose, files
from farfield.detectors.adascale import AdaScale
from farfield.detectors.base import Chain, Detector, Exported, Fitter, Shaper
from farfield.detectors.cadref import CADRef
from farfield.detectors.centred import FDBD, NCI
from farfield.detectors.compose import chain, fit_taps_of, fitted, most_of, options_of, papers_of
from farfield.detectors.dice import DICE
from farfield.detectors.entropy import GEN, Entropy
from farfield.detectors.featurenorm import FeatureNorm
from farfield.detectors.fsebo import FSEBO
from farfield.detectors.gradnorm import GradNorm
from farfield.detectors.gram import Gram
from farfield.detectors.kl import KLMatching
from farfield.detectors.knn import KNN
from farfield.detectors.layers import MultiLayerMahalanobis
from farfield.detectors.logits import MSP, Energy, MaxLogit
from farfield.detectors.mahalanobis import Mahalanobis
from farfield.detectors.mos import MOS
from farfield.detectors.neco import NECO
from farfield.detectors.nnguide import NNGuide
from farfield.detectors.odin import ODIN
from farfield.detectors.openmax import OpenMax
from farfield.detectors.panel import Panel
from farfield.detectors.rankfeat import RankFeat
from farfield.detectors.react import React
from farfield.detectors.relative import RelativeMahalanobis
from farfield.detectors.residual import Residual, ViM
from farfield.detectors.shaping import ASHB, ASHP, ASHS, Scale
from farfield.detectors.she import SHE
from farfield.detectors.sphere import MahalanobisPP, RelativeMahalanobisPP
from farfield.detectors.temperature import TemperatureScaling
from farfield.detectors.vra import VRA

CATALOGUE: dict[str, type[Detector]] = {
    "msp": MSP,
    "maxlogit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "gen": GEN,
    "kl-matching": KLMatching,
    "temperature": TemperatureScaling,
    "openmax": OpenMax,
    "mos": MOS,
    "mahalanobis": Mahalanobis,
    "mahalanobis++": MahalanobisPP,
    "relative-mahalanobis": RelativeMahalanobis,
    "relative-mahalanobis++": RelativeMahalanobisPP,
    "knn": KNN,
    "nnguide": NNGuide,
    "she": SHE,
    "residual": Residual,
    "vim": ViM,
    "neco": NECO,
    "fdbd": FDBD,
    "nci": NCI,
    "cadref": CADRef,
    "gradnorm": GradNorm,
    "fsebo": FSEBO,
    "odin": ODIN,
    "rankfeat": RankFeat,
    "featurenorm": FeatureNorm,
    "multi-layer-mahalanobis": MultiLayerMahalanobis,
    "gram": Gram,
    "adascale": AdaScale,
    "panel": Panel,
}
SHAPERS: dict[str, type[Shaper]] = {
    "react": React,
    "vra": VRA,
    "ash-p": ASHP,
    "ash-b": ASHB,
    "ash-s": ASHS,
    "scale": Scale,
    "dice": DICE,
}
DEFAULTS = ("msp", "maxlogit", "energy", "react+energy", "mahalanobis", "relative-mahalanobis++", "knn")


def parse(text: str) -> Fitter:
    """The fitter a text names, such as `knn:k=10` or `react:q=90+energy`.

    >>> parse("knn:k=10").keywords
    {'k': 10}
    """
    return compose.parse(text, CATALOGUE, SHAPERS)


def load(path: str | Path, classes: Sequence[type[nn.Module]] = ()) -> Detector:
    """The detector saved at `path`.

    Args:
        path: a file written by `detector.save`.
        classes: your own detector classes that the file may name, beside Farfield's.

    Raises:
        InputError: when the file is missing, is not a detector's, or names a class that is not known.
    """
    return files.load(path, [*CATALOGUE.values(), *SHAPERS.values(), Chain, *classes])


__all__ = [
    "ASHB",
    "ASHP",
    "ASHS",
    "CATALOGUE",
    "DEFAULTS",
    "DICE",
    "FDBD",
    "FSEBO",
    "GEN",
    "KNN",
    "MOS",
    "MSP",
    "NCI",
    "NECO",
    "ODIN",
    "SHAPERS",
    "SHE",
    "VRA",
    "AdaScale",
    "CADRef",
    "Chain",
    "Detector",
    "Energy",
    "Entropy",
    "Exported",
    "FeatureNorm",
    "Fitter",
    "GradNorm",
    "Gram",
    "KLMatching",
    "Mahalanobis",
    "MahalanobisPP",
    "MaxLogit",
    "MultiLayerMahalanobis",
    "NNGuide",
    "OpenMax",
    "Panel",
    "RankFeat",
    "React",
    "RelativeMahalanobis",
    "RelativeMahalanobisPP",
    "Residual",
    "Scale",
    "Shaper",
    "TemperatureScaling",
    "ViM",
    "chain",
    "fit_taps_of",
    "fitted",
    "load",
    "most_of",
    "options_of",
    "papers_of",
    "parse",
]
