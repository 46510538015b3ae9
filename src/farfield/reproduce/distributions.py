"""What a classifier says of pictures one by one, as a distribution before and after a change of training: energies, maximal logits, gradients."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import numpy as np
import torch

from farfield.outputs import Outputs
from farfield.reproduce.base import Cells, Record

QUANTILES = {"q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95}
SPREAD = {"mean": "mean", "q05": "5 %", "q25": "25 %", "median": "median", "q75": "75 %", "q95": "95 %"}


def spread(of: tuple[str, ...], values: np.ndarray) -> Record:
    """The mean of some values, with its interval, and quantiles."""
    mean, half = float(values.mean()), 1.96 * float(values.std()) / len(values) ** 0.5
    return Record(of, {"mean": mean, **{name: float(np.quantile(values, q)) for name, q in QUANTILES.items()}}, {"mean": (mean - half, mean + half)})


def head_gradient(outputs: Outputs) -> torch.Tensor:
    """The length of the gradient of cross-entropy with the predicted class by the head's weights, of each sample: `||p - y||_2 ||f||_2`.

    >>> head_gradient(Outputs(logits=torch.zeros(1, 2), features=torch.tensor([[3.0, 4.0]])))  # |(-1/2, 1/2)| times 5
    tensor([3.5355], dtype=torch.float64)
    """
    assert outputs.logits is not None and outputs.features is not None
    p = outputs.logits.double().softmax(1)
    y = torch.nn.functional.one_hot(outputs.logits.argmax(1), p.shape[1])
    length: torch.Tensor = (p - y).norm(dim=1) * outputs.features.double().norm(dim=1)
    return length


QUANTITIES: dict[str, Callable[[Outputs], torch.Tensor]] = {
    "energy": lambda outputs: _logits(outputs).logsumexp(1),
    "max logit": lambda outputs: _logits(outputs).amax(1),
    "gradient norm": head_gradient,
}


def _logits(outputs: Outputs) -> torch.Tensor:
    assert outputs.logits is not None
    return outputs.logits.double()


def falls_more(quantity: str, relative: bool, after: str = "SFT") -> Callable[[Cells], float]:
    """By how much more a mean falls over the sets than on ID pictures; in percent of what it was, where `relative`."""

    def fall(cells: Cells, name: str) -> float:
        before, now = cells[quantity, "before", name, "mean"], cells[quantity, after, name, "mean"]
        return 100 * (before - now) / abs(before) if relative else before - now

    def difference(cells: Cells) -> float:
        sets = [name for name in cells.names(2) if name != "ID"]
        return fmean(fall(cells, name) for name in sets) - fall(cells, "ID")

    return difference


def changed_mildly(cells: Cells) -> float:
    """How much further max logits move than gradient norms, by the change of the medians in percent, over ID and all sets."""

    def moved(quantity: str) -> float:
        names = cells.names(2)
        pairs = [(cells[quantity, "before", name, "median"], cells[quantity, "SFT", name, "median"]) for name in names]
        return fmean(100 * abs(now - before) / abs(before) for before, now in pairs)

    return moved("max logit") - moved("gradient norm")
