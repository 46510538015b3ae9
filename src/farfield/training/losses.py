"""The losses of the papers, as pure functions of logits (or features) and labels. Each is a mean over samples, in nats."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from farfield.errors import InputError
from farfield.outputs import in_groups

FORMS = ("ratio", "printed")


def smoothed(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], smoothing: float = 0.0) -> Float[Tensor, ""]:
    """Cross-entropy with smoothed labels: `-mean_n sum_c t_c log p_c`, `t = (1 - s) onehot(y) + s / c`.

    >>> round(float(smoothed(torch.zeros(1, 4), torch.tensor([2]), 0.1)), 4)  # log 4, whatever the labels
    1.3863

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, section 7. Xiong et al. (ICCV 2025) print
    `u` of all ones; it must be 1/c.
    """
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)


def mixed(
    logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], others: Int64[Tensor, " n"], share: float | Tensor, smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Cross-entropy of mixtures: `(1 - share) CE(v, labels) + share CE(v, others)`, which is CE with the mixed target.

    Args:
        logits: of the mixtures.
        labels: of the first sample in each.
        others: of the second.
        share: of the second, in [0, 1]; one number, or one for each sample.
        smoothing: of both labels.

    >>> v, y = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    >>> bool(mixed(v, y, 1 - y, 0.0) == F.cross_entropy(v, y))
    True

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018.
    """
    one = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
    other = F.cross_entropy(logits, others, label_smoothing=smoothing, reduction="none")
    share = torch.as_tensor(share, dtype=one.dtype, device=one.device)
    return ((1 - share) * one + share * other).mean()


def separation(logits: Float[Tensor, "n c"], mixtures: Float[Tensor, "n c"], share: float, form: str = "ratio") -> Float[Tensor, ""]:
    """Virtual separation loss: cross-entropy between `P_v`, how much of the two goes to the mixture, and its target.

    With `m = max(share, 1 - share)` and `P = m / (m + 1)`: `L = -(1 - P) log(1 - P_v) - P log P_v`, least where `P_v / (1 - P_v) = m`.

    - `ratio`: `P_v = LSE(v_mix) / (LSE(v) + LSE(v_mix))`. At the optimum the scores have the ratio that the paper states, `LSE(v) / LSE(v_mix) = 1 / m`.
      It needs both positive, so each goes through a softplus.
    - `printed`: `P_v = sum exp(v_mix) / sum (exp(v) + exp(v_mix))`, as equation 13 is printed. At the optimum the scores differ by `log(1 / m)`,
      at most 0.69, which pulls large scores of ID samples down.

    *Differs from the paper*: `ratio`, the default, has a logarithm before each sum, without which the property in its text does not hold.

    Args:
        logits: of the samples.
        mixtures: of the mixtures that begin with them.
        share: of the second sample in the mixtures.
        form: `ratio` or `printed`.

    >>> same = torch.tensor([[5.0, 0.0]])
    >>> round(float(separation(same, same, 0.0)), 4)  # at its least: log 2
    0.6931

    Source: Xiong et al., "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025, equation 13.
    """
    if form not in FORMS:
        raise InputError(f"The separation loss has the forms {' and '.join(FORMS)}; got {form!r}.")
    most = max(share, 1 - share)
    target = most / (most + 1)
    one, mix = logits.logsumexp(1), mixtures.logsumexp(1)
    if form == "printed":
        odds = mix - one  # the logit of P_v
    else:
        one, mix = F.softplus(one) + 1e-6, F.softplus(mix) + 1e-6
        odds = mix.log() - one.log()
    return F.binary_cross_entropy_with_logits(odds, torch.full_like(odds, target))


def uniformity(logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """How far predictions are from uniform: `mean_n [LSE(v) - mean_c v_c]`, the cross-entropy between the uniform distribution and `p`.

    It is `KL(uniform || p) + log c`, least (`log c`) where all logits are equal.

    >>> round(float(uniformity(torch.zeros(3, 5))), 4)  # log 5
    1.6094

    Source: Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019; Zhang et al. (IEEE TIP
    2026) call for such a distance in equation 2.
    """
    return (logits.logsumexp(1) - logits.mean(1)).mean()


def towards_uniform(logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """The other direction: `KL(p || uniform) = mean_n [log c + sum_c p_c log p_c]`.

    >>> round(float(towards_uniform(torch.zeros(3, 5))), 4)
    0.0
    """
    log_p = logits.log_softmax(1)
    return (math.log(logits.shape[1]) + (log_p.exp() * log_p).sum(1)).mean()


def logit_norm(logits: Float[Tensor, "n c"], labels: Int64[Tensor, " n"], tau: float = 0.04) -> Float[Tensor, ""]:
    """Cross-entropy of normalised logits: `CE(v / (tau (|v|_2 + 1e-7)), y)`.

    >>> v, y = torch.tensor([[3.0, 4.0]]), torch.tensor([1])
    >>> bool(torch.isclose(logit_norm(v, y), logit_norm(10 * v, y)))
    True

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", ICML 2022.
    """
    return F.cross_entropy(logits / (tau * (logits.norm(dim=1, keepdim=True) + 1e-7)), labels)


def feature_norm(features: Float[Tensor, "n d"], weight: Float[Tensor, "c d"], bias: Float[Tensor, " c"], tau: float = 0.1) -> Float[Tensor, "n c"]:
    """The logits T2FNorm trains: `W (f / (tau |f|_2)) + b`.

    Source: Regmi et al., "T2FNorm: Train-time Feature Normalization for OOD Detection", 2023.
    """
    return F.linear(F.normalize(features, dim=1) / tau, weight, bias)


def group_softmax(
    logits: Float[Tensor, "n c"],
    targets: Int64[Tensor, "n k"],
    places: Int64[Tensor, "k m"],
    others: Int64[Tensor, "n k"] | None = None,
    share: float = 0.0,
) -> Float[Tensor, ""]:
    """MOS's loss: the sum over the groups of the cross-entropy in each group's softmax.

    Args:
        logits: of a head with groups.
        targets: which logit of each group is right, 0 for "others"; see `groups.targets`.
        places: where the logits of each group are; see `farfield.outputs.group_places`.
        others: the targets of samples that these were mixed with.
        share: of those.

    >>> one_group = torch.tensor([[0, 1, 2]])
    >>> v = torch.tensor([[0.5, 2.0, -1.0]])
    >>> bool(group_softmax(v, torch.tensor([[1]]), one_group) == F.cross_entropy(v, torch.tensor([1])))
    True

    Source: Huang and Li, "MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space", CVPR 2021, equation 2.
    """
    log_p = in_groups(logits, places).log_softmax(2)

    def right(wanted: Tensor) -> Tensor:
        return -log_p.gather(2, wanted[:, :, None]).sum((1, 2)).mean()

    return right(targets) if others is None else (1 - share) * right(targets) + share * right(others)


def jensen_shannon(*logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """How far several predictions for the same samples are apart: `mean_n mean_j KL(p_j || m)`, `m` the mean of the `p_j`; from 0 to the log of their number.

    *Differs from the authors' code*, which keeps `m` in [1e-7, 1] so as not to take the logarithm of 0; here `log m` is a log-sum-exp of the `log p_j`, which needs no bounds.

    >>> v = torch.tensor([[1.0, -1.0]])
    >>> abs(float(jensen_shannon(v, v, v))) < 1e-6
    True

    Source: Hendrycks et al., "AugMix", ICLR 2020, section 3.
    """
    logs = torch.stack([one.log_softmax(1) for one in logits])
    log_mean = logs.logsumexp(0) - math.log(len(logits))
    return (logs.exp() * (logs - log_mean)).sum(2).mean()
