"""How far training has lowered a score on ID and on OOD images, and what that alone would do to the AUROC.

After a change of training a classifier gives the same images other maximal logits. Where every ID image loses the share `r_i` of its own and every OOD
image the share `r_o`, the AUROC cannot rise if `r_i >= r_o`, nor fall if `r_i <= r_o`.

Source: Xiong et al., "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025, section 4.2, proposition 4.2.
"""

import numpy as np

from farfield.errors import InputError
from farfield.metrics.values import Scores, as_pair, as_scores, auroc


def relative_decrement(before: Scores, after: Scores, *, each: bool = False) -> float:
    """Return the share of a score that is lost on a set of images, `r = 1 - mean(after) / mean(before)`; below 0 where it has grown.

    Args:
        before: `(n,)` scores of the images, such as maximal logits, with a mean above 0.
        after: `(n,)` those of the same images by the other classifier.
        each: the mean of each image's own `1 - after / before`, as the paper writes it, in place of the ratio of means. Only images with a
            score above 0 before count, and those near 0 count for much.

    Raises:
        InputError: where the two are of unlike length, or there is no score above 0 to lose a share of.

    >>> relative_decrement([4, 2], [1, 2]), relative_decrement([4, 2], [1, 2], each=True)
    (0.5, 0.375)
    """
    s, lower = as_scores(before, "before"), as_scores(after, "after")
    if s.size != lower.size:
        raise InputError(f"`before` and `after` must be scores of the same images; got {s.size} and {lower.size}.")
    if not (np.isfinite(s).all() and np.isfinite(lower).all()):
        raise InputError("`before` and `after` must be finite: an infinite score has no share to lose.")
    base = s[s > 0] if each else s
    if base.size == 0 or base.mean() <= 0:
        raise InputError(f"A relative decrement needs scores above 0 before, as maximal logits are; their mean is {s.mean():.4g}. Use another score.")
    return float(np.mean(1 - lower[s > 0] / base)) if each else float(1 - lower.mean() / base.mean())


def decrement_gap(r_in: float, r_out: float) -> float:
    """Return how much more of the score ID lost than OOD, `q = (r_i - r_o) / (1 - r_o)`; `(1 - r_i) / (1 - r_o)` is `1 - q`.

    Raises:
        InputError: where `r_o` is 1 or more: OOD has lost all of its score, and the sign of what is left says nothing.

    >>> decrement_gap(0.5, 0.25), decrement_gap(0.5, 0.5)
    (0.3333333333333333, 0.0)
    """
    if not r_out < 1:
        raise InputError(f"`r_out` must be below 1, the share at which nothing of the score is left; got {r_out:.4g}.")
    return (r_in - r_out) / (1 - r_out)


def predicted_auroc(s_in: Scores, s_out: Scores, q: float) -> float:
    """Return the AUROC that a gap of decrements alone makes of one, `P((1 - q) S_in > S_out) + P(=) / 2`; it never rises with `q` where `s_in >= 0`.

    Args:
        s_in: `(n_in,)` scores of ID images before, as `auroc`'s.
        s_out: `(n_out,)` those of OOD images.
        q: the gap, see `decrement_gap`.

    >>> predicted_auroc([4, 2], [1, 3], 0.0), predicted_auroc([4, 2], [1, 3], 0.5)
    (0.75, 0.375)
    """
    x, y = as_pair(s_in, s_out)
    return auroc((1 - q) * x, y)
