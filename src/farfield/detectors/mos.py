"""MOS: the least probability of "others" over the groups of a head with a softmax in each."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from farfield.detectors.base import Detector, fingerprint_of
from farfield.errors import InputError
from farfield.outputs import Data, validated


class MOS(Detector):
    """Minimum others score: `S = -min_k log p_k(others)`, the softmax of each group `k` taken alone.

    For an ID input one group claims it, so that its "others" is unlikely; for an OOD input "others" is likely in every group.

    *Differs from the paper* by an increasing map, which has `-min_k p_k(others)`: probabilities near 0 and 1 tie in float32.

    >>> import torch, farfield as ff
    >>> head = ff.Head(torch.zeros(4, 1), torch.zeros(4), groups=torch.tensor([-1, 0, -1, 1]))
    >>> two = ff.Outputs(logits=torch.tensor([[0.0, 3.0, 3.0, 0.0], [3.0, 0.0, 3.0, 0.0]]), head=head)
    >>> MOS.fit(two)(two)
    tensor([3.0486, 0.0486])

    Source: Huang and Li, "MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space", CVPR 2021, equation 3.
    """

    use = "Classifiers trained with a softmax in each group of classes (MOS), for large label spaces."
    fails = "Flat heads, which it refuses."
    cost = "scoring O(c); fitting nothing"
    needs = ("logits",)
    fit_needs = ("logits", "head")
    passes = 0
    paper = "Huang and Li, CVPR 2021"
    sizes: Int64[Tensor, " k"]

    def __init__(self, *, sizes: Int64[Tensor, " k"], fingerprint: str | None = None) -> None:
        super().__init__(sizes=sizes, fingerprint=fingerprint)
        self.parts: list[int] = sizes.tolist()  # logits of each group, its "others" counted

    @classmethod
    def fit(cls, train: Data) -> MOS:
        """Takes the groups from the head.

        Args:
            train: outputs with logits `(n, c)` and a head with `groups`; only the first chunk is looked at.

        Raises:
            InputError: for a head without groups.
        """
        head = next(validated(train, cls.fit_needs, "MOS", grouped=True)).head
        if head is None or head.groups is None:
            raise InputError("MOS is for heads with a softmax in each of several groups, and this one is flat. Give `Head(..., groups=...)`.")
        starts = (head.groups == -1).nonzero()[:, 0]
        return cls(sizes=torch.cat([starts[1:], starts.new_tensor([len(head.groups)])]) - starts, fingerprint=fingerprint_of(train))

    def score(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:  # type: ignore[override]
        """From `logits`, in nats, at least 0."""
        # -log p_k(others) = softplus(LSE over the classes of k - v_others); a group's logits lie together
        margins = [group[:, 1:].logsumexp(1) - group[:, 0] for group in logits.split(self.parts, 1)]
        return torch.nn.functional.softplus(torch.stack(margins, 1)).amax(1)
