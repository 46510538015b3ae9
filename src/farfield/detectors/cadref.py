"""CADRef: how far a feature is from what its class looks like, apart by whether that helps the class's logit."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of, head_of
from farfield.errors import InputError
from farfield.outputs import Data, validated
from farfield.stats import double

LEAST = 1e-2  # of the mean energy: what a smaller one counts as


class CADRef(Detector):
    """Class-aware decoupled relative feature: `S = -(e+ / L + e- / mean L)`, `e+- = ||relu(+-(f - m_y) sign(w_y))||_1 / ||f||_1`.

    `m_y` is the mean feature of the training samples predicted as class `y`, `w_y` the class's weights, `L = LSE(v)` the energy.

    *Differs from the paper*: an energy below 1 % of the training samples' mean counts as that, since a negative one would turn the term around; a
    class that is never predicted has the mean of all samples.

    >>> import torch, farfield as ff
    >>> x = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> train = ff.Outputs(features=x, logits=4 * x, head=ff.Head(4 * torch.eye(2), torch.zeros(2)))
    >>> CADRef.fit(train)(ff.Outputs(features=torch.tensor([[3.0, 0.0]]), logits=torch.tensor([[12.0, 0.0]])))  # 1 of 3, over 12
    tensor([-0.0278])

    Source: Ling, Chang, Zhao, Zhao, Chow and Deng, "CADRef: Robust Out-of-Distribution Detection via Class-Aware Decoupled Relative Feature
    Leveraging", CVPR 2025.
    """

    use = "Logits, features and a linear head, without labels, where the energies of training data are well above 0."
    fails = "Energies around 0, as small logits have them: a floor keeps the term from turning around, and it says less there."
    cost = "scoring O(c + d); fitting O(n (c + d)); keeps 2 c d numbers"
    needs = ("logits", "features")
    fit_needs = ("logits", "features", "head")
    passes = 1
    paper = "Ling et al., CVPR 2025"
    means: Tensor
    signs: Tensor
    energy: Tensor

    @classmethod
    def fit(cls, train: Data) -> CADRef:
        """The mean feature of each predicted class and the mean energy, in one pass, in float64.

        Args:
            train: outputs with features `(n, d)`, logits `(n, c)` and the head; labels are not looked at.

        Raises:
            InputError: for bad data, or a mean energy that is not positive.
        """
        weight = double(head_of(train, "CADRef").weight)
        sums, counts, energies = torch.zeros_like(weight), weight.new_zeros(len(weight)), 0.0
        for chunk in validated(train, cls.fit_needs, "CADRef"):
            assert chunk.features is not None and chunk.logits is not None
            predicted = chunk.predictions().to(weight.device)
            sums.index_add_(0, predicted, double(chunk.features).to(weight.device))
            counts += torch.bincount(predicted, minlength=len(counts))
            energies += float(double(chunk.logits).logsumexp(1).sum())
        mean = energies / float(counts.sum())
        if mean <= 0:
            raise InputError(f"CADRef needs energies above 0; their mean over the training samples is {mean:.3g}.")
        means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], sums.sum(0) / counts.sum())
        energy = torch.tensor(mean, dtype=torch.float64, device=weight.device)
        return cls(means=means, signs=weight.sign(), energy=energy, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"], features: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits` and `features`: at most 0."""
        f, y, mean = double(features), logits.argmax(1), double(self.energy)
        towards = (f - double(self.means)[y]) * double(self.signs)[y]
        size = f.abs().sum(1).clamp_min(1e-300)
        own = double(logits).logsumexp(1).maximum(LEAST * mean)
        # S = -(||relu(d sign w)||_1 / L + ||relu(-d sign w)||_1 / mean L) / ||f||_1; a feature of zeros is as far off as one can be
        score = -(towards.relu().sum(1) / own + (-towards).relu().sum(1) / mean) / size
        return score.clamp_min(-1e30).to(features)
