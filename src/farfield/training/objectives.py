"""What recipes minimise: each objective turns a batch into losses of `farfield.training.losses`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from farfield.errors import FarfieldWarning, InputError, nearest
from farfield.outputs import group_places, in_groups
from farfield.training import losses
from farfield.training.batch import Batch, Net, Objective
from farfield.training.batch import within as _within
from farfield.training.draws import Draws, beta
from farfield.training.groups import targets
from farfield.training.mixing import MIXES, cutmix, draw_mix, mixup
from farfield.training.npos import NPOS
from farfield.training.pictures import augmix, jigsaw, shuffle_channels, tile_sizes

Said = tuple[Float[Tensor, ""], Float[Tensor, "n c"]]


class CrossEntropy(Objective):
    """Cross-entropy of logits, with smoothed labels and mixtures where asked for.

    Args:
        smoothing: of the labels, in [0, 1].
        mix: `none`, `mixup`, `cutmix`, or `mixup+cutmix`, one of the two for each batch.
        alpha: mixup's share is of Beta(alpha, alpha).
        cut_alpha: likewise CutMix's.

    Source: torchvision's recipes v1 (plain) and v2 (smoothing 0.1, mixup 0.2, CutMix 1.0), which
    Xiong et al. (ICCV 2025) take apart.
    """

    def __init__(self, smoothing: float = 0.0, mix: str = "none", alpha: float = 0.2, cut_alpha: float = 1.0) -> None:
        super().__init__()
        _within("smoothing", smoothing, 0, 1)
        _within("alpha", alpha, 0, above=True)
        _within("cut_alpha", cut_alpha, 0, above=True)
        if mix not in MIXES:
            raise InputError(f"There is no mixture {mix!r}{nearest(mix, MIXES)} There are: {', '.join(MIXES)}.")
        self.smoothing, self.mix, self.alpha, self.cut_alpha = smoothing, mix, alpha, cut_alpha
        self.paired = mix != "none"

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits (of the mixtures, where there are any)."""
        if batch.partners is None:
            logits = net(batch.inputs)
            return losses.smoothed(logits, batch.labels, self.smoothing), logits
        random = batch.draws.once("mixture")
        kind, share = draw_mix(self.mix, self.alpha, self.cut_alpha, random)
        if kind == "mixup":
            inputs = mixup(batch.inputs, batch.partners.inputs, share)
        else:
            inputs, share = cutmix(batch.inputs, batch.partners.inputs, share, random)
        logits = net(inputs)
        return losses.mixed(logits, batch.labels, batch.partners.labels, share, self.smoothing), logits


class RegMixup(Objective):
    """Cross-entropy of the samples plus that of their mixtures: `CE(v, y) + CE_mix(v_mix, y_mix)`.

    *Differs from the authors' code*, which takes the mean of the two: half of this loss, and half the step at the same learning rate. `mean` does so too.

    Args:
        alpha: the share is of Beta(alpha, alpha).
        smoothing: of all labels.
        mean: whether the mean of the two is taken instead of the sum.

    Source: Pinto et al., "RegMixup", NeurIPS 2022; Xiong et al., ICCV 2025, equation 12.
    """

    paired = True

    def __init__(self, alpha: float = 10.0, smoothing: float = 0.0, mean: bool = False) -> None:
        super().__init__()
        _within("alpha", alpha, 0, above=True)
        _within("smoothing", smoothing, 0, 1)
        self.alpha, self.smoothing, self.mean = alpha, smoothing, mean

    def both(self, net: Net, batch: Batch) -> tuple[Tensor, Tensor, Tensor, float]:
        """The sum of the two cross-entropies, the logits of the samples and of the mixtures, and the share."""
        assert batch.partners is not None
        share = beta(self.alpha, batch.draws.once("mixture"))
        logits, mixtures = net(torch.cat([batch.inputs, mixup(batch.inputs, batch.partners.inputs, share)])).chunk(2)
        plain = losses.smoothed(logits, batch.labels, self.smoothing)
        return plain + losses.mixed(mixtures, batch.labels, batch.partners.labels, share, self.smoothing), logits, mixtures, share

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits of the samples."""
        loss, logits, _, _ = self.both(net, batch)
        return (loss / 2 if self.mean else loss), logits


class AugRevise(RegMixup):
    """RegMixup's two cross-entropies and the virtual separation loss: `CE(v, y) + CE_mix(v_mix, y_mix) + L_vs`.

    AugDelete is to follow: the last layer at the optimum of plain cross-entropy (`farfield.training.last_layer`).

    Args:
        alpha: the share is of Beta(alpha, alpha), which the paper does not state.
        smoothing: of all labels; the paper's method has none.
        form: of the separation loss, see `losses.separation`.

    *Differs from algorithm 2*, which mixes before it augments: here both of the mixed samples are augmented.

    Source: Xiong et al., "Diagnosing Pretrained Models for Out-of-distribution Detection", ICCV 2025, equations 12 to 14 and
    algorithm 2.
    """

    def __init__(self, alpha: float = 0.2, smoothing: float = 0.0, form: str = "ratio") -> None:
        super().__init__(alpha, smoothing)
        if form not in losses.FORMS:
            raise InputError(f"The separation loss has no form {form!r}{nearest(form, losses.FORMS)} There are: {', '.join(losses.FORMS)}.")
        self.form = form

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits of the samples."""
        loss, logits, mixtures, share = self.both(net, batch)
        return loss + losses.separation(logits, mixtures, share, self.form), logits


class AugMix(Objective):
    """Cross-entropy, and consistency of the predictions for a picture and two mixtures of augmentation chains of it.

    `CE(v, y) + weight * JS(p, p_1, p_2)`.

    Args:
        weight: of the consistency.
        severity: of the operations, 1 to 10.
        width: chains in a mixture.
        depth: operations in a chain; 0 for 1 to 3 at random.
        operations: which may be used, name to largest magnitude (`farfield.training.operations.allowed`); the paper's by default.

    Source: Hendrycks et al., "AugMix", ICLR 2020.
    """

    def __init__(
        self, weight: float = 12.0, severity: float = 3.0, width: int = 3, depth: int = 0, operations: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        _within("weight", weight, 0)
        _within("severity", severity, 0, 10, above=True)
        _within("width", width, 1)
        _within("depth", depth, 0)
        self.weight, self.severity, self.width, self.depth, self.operations = weight, severity, width, depth, operations

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits of the pictures as they are."""

        def view(name: str) -> Tensor:
            return batch.normalize(augmix(batch.pictures, batch.draws, name, self.severity, self.width, self.depth, self.operations))

        clean, one, two = net(torch.cat([batch.inputs, view("one"), view("two")])).chunk(3)
        return losses.smoothed(clean, batch.labels) + self.weight * losses.jensen_shannon(clean, one, two), clean


class LogitNorm(Objective):
    """Cross-entropy of logits of length `1 / tau`; scores are of the logits as they are.

    Args:
        tau: the temperature; 0.04 in OpenOOD, 0.01 in the authors' command for CIFAR-10.

    Source: Wei et al., "Mitigating Neural Network Overconfidence with Logit Normalization", ICML 2022.
    """

    def __init__(self, tau: float = 0.04) -> None:
        super().__init__()
        _within("tau", tau, 0, above=True)
        self.tau = tau

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits."""
        logits = net(batch.inputs)
        return losses.logit_norm(logits, batch.labels, self.tau), logits


class T2FNorm(Objective):
    """Cross-entropy of the logits of normalised features, `W (f / (tau |f|)) + b`; scores are of `W (f / tau) + b`.

    *Differs from the paper*: after training `1 / tau` is folded into the weights, so that the model is a plain one, and its predictions too are of features
    as they are; the paper predicts with normalised ones, which differs by the bias alone.

    Args:
        tau: the temperature.

    Source: Regmi et al., "T2FNorm", 2023.
    """

    features = True

    def __init__(self, tau: float = 0.1) -> None:
        super().__init__()
        _within("tau", tau, 0, above=True)
        self.tau = tau

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the normalised logits."""
        features, _ = net.look(batch.inputs)
        weight: Any = getattr(net.head, "weight")  # noqa: B009 (a module's attribute of unknown type)
        bias: Any = getattr(net.head, "bias", None)
        weight = weight.flatten(1).float()
        logits = losses.feature_norm(features, weight, weight.new_zeros(len(weight)) if bias is None else bias.float(), self.tau)
        return losses.smoothed(logits, batch.labels), logits

    def after(self, net: Net) -> None:
        """Folds the temperature into the head: `W <- W / tau`. The bias stays."""
        weight: Any = getattr(net.head, "weight")  # noqa: B009 (a module's attribute of unknown type)
        with torch.no_grad():
            weight.div_(self.tau)


class OutlierExposure(Objective):
    """Cross-entropy, and predictions for outliers pushed towards uniform: `CE(v, y) + weight * D(v_outlier, uniform)`.

    Without outliers of one's own they are made of the batch: each picture as a jigsaw and with its channels in another order. That is equation 2 of
    Zhang et al. (2026).

    Args:
        weight: 0.5 in the outlier exposure paper, 1 in Zhang et al. (2026).
        pseudo: `jigsaw`, `channels`, or both as `jigsaw+channels`; nothing is made where `outliers` are given.
        sizes: the jigsaw's tile sizes in pixels, one of which is drawn at each step; those above half a side are dropped.
        distance: `cross-entropy` between uniform and `p`, or `kl`, `KL(p || uniform)`.
        outliers: `(n, 3, h, w)` 8-bit pictures to draw from, as many a step as there are samples.

    Source: Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", ICLR 2019; Zhang et al., "Sharpness-aware Fine-Tuning for OOD Detection", IEEE TIP 2026,
    equation 2.
    """

    def __init__(
        self,
        weight: float = 0.5,
        pseudo: str = "jigsaw+channels",
        sizes: Sequence[int] = (2, 3, 5, 10, 15, 30, 60),
        distance: str = "cross-entropy",
        outliers: UInt8[Tensor, "m 3 h w"] | None = None,
    ) -> None:
        super().__init__()
        _within("weight", weight, 0)
        if pseudo not in ("jigsaw", "channels", "jigsaw+channels"):
            raise InputError(f"There are no pseudo-outliers {pseudo!r}; there are jigsaw, channels, and jigsaw+channels.")
        self.kinds = tuple(pseudo.split("+"))
        if distance not in ("cross-entropy", "kl"):
            raise InputError(f"There is no distance {distance!r}; there are cross-entropy and kl.")
        self.weight, self.sizes, self.distance, self.outliers = weight, tuple(sizes), distance, outliers
        self.told = False  # that pictures are grey, once

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the logits of the samples."""
        strange = self.strange(batch.pictures, batch.draws)
        logits, wrong = net(torch.cat([batch.inputs, batch.normalize(strange)])).tensor_split([len(batch.inputs)])
        loss = losses.smoothed(logits, batch.labels)
        if len(wrong) == 0:
            return loss, logits
        distance = losses.uniformity if self.distance == "cross-entropy" else losses.towards_uniform
        return loss + self.weight * distance(wrong), logits

    def strange(self, pictures: UInt8[Tensor, "n 3 h w"], draws: Draws) -> UInt8[Tensor, "m 3 h w"]:
        """The outliers of a step."""
        if self.outliers is not None:
            return self.outliers[draws.choice("outlier", len(self.outliers))].to(pictures.device)
        made = []
        if "jigsaw" in self.kinds:
            sizes = tile_sizes(self.sizes, pictures.shape[2:])
            size = sizes[int(torch.randint(len(sizes), (), generator=draws.once("tile size")))]
            made.append(jigsaw(pictures, size, draws))
        if "channels" in self.kinds:
            made.append(shuffle_channels(pictures, draws))
            if len(made[-1]) == 0 and not self.told:
                self.told = True
                rest = "they are jigsaws alone" if len(made) > 1 else "the loss of such batches is plain cross-entropy; take pseudo='jigsaw'"
                warnings.warn(
                    f"A batch of grey pictures alone has no pseudo-outliers with channels in another order: {rest}.", FarfieldWarning, stacklevel=2
                )
        return torch.cat(made)


class GroupSoftmax(Objective):
    """MOS: the sum over groups of the cross-entropy in each group's softmax; the model has a head with these groups.

    Args:
        groups: of the head, see `farfield.outputs.Head`.
        mix: `none` or `mixup`, which the BiT-HyperRule has on for 20,000 pictures and more.
        alpha: mixup's share is of Beta(alpha, alpha).

    Source: Huang and Li, "MOS", CVPR 2021, equation 2.
    """

    def __init__(self, groups: Integer[Tensor, " c"], mix: str = "none", alpha: float = 0.1) -> None:
        super().__init__()
        if mix not in ("none", "mixup"):
            raise InputError(f"MOS has no mixture {mix!r}; there are none and mixup.")
        _within("alpha", alpha, 0, above=True)
        self.paired, self.alpha = mix == "mixup", alpha
        self.width = len(groups)
        self.register_buffer("places", group_places(groups), persistent=False)
        self.register_buffer("targets", targets(groups), persistent=False)

    def forward(self, net: Net, batch: Batch) -> Said:
        """The loss and the log-probability of each class in its group's softmax, whose largest is that of the predicted class."""
        places, right = self.get_buffer("places"), self.get_buffer("targets")
        batch.check(len(right))
        if batch.partners is None:
            logits = self.wide(net(batch.inputs))
            loss = losses.group_softmax(logits, right[batch.labels], places)
        else:
            share = beta(self.alpha, batch.draws.once("mixture"))
            logits = self.wide(net(mixup(batch.inputs, batch.partners.inputs, share)))
            loss = losses.group_softmax(logits, right[batch.labels], places, right[batch.partners.labels], share)
        place, group = right.max(1)
        return loss, in_groups(logits, places).log_softmax(2)[:, group, place]

    def wide(self, logits: Float[Tensor, "n c"]) -> Float[Tensor, "n c"]:
        """The logits, which must be as many as the groups say."""
        if logits.shape[1] != self.width:
            raise InputError(
                f"The groups are of a head with {self.width} logits, and the model has {logits.shape[1]}. Give it a head with these groups."
            )
        return logits


OBJECTIVES: dict[str, type[Objective]] = {
    "cross-entropy": CrossEntropy,
    "regmixup": RegMixup,
    "augrevise": AugRevise,
    "augmix": AugMix,
    "logitnorm": LogitNorm,
    "t2fnorm": T2FNorm,
    "outlier-exposure": OutlierExposure,
    "mos": GroupSoftmax,
    "npos": NPOS,
}


def make_objective(name: str, options: Mapping[str, Any], **given: Any) -> Objective:
    """The objective of that name with these options; `given` are those that are no words or numbers, such as a head's groups.

    Raises:
        InputError: for an unknown name or option, or a value out of its range.

    >>> make_objective("regmixup", {"alpha": 20}).alpha
    20
    """
    if name not in OBJECTIVES:
        raise InputError(f"There is no objective {name!r}{nearest(name, OBJECTIVES)} There are: {', '.join(OBJECTIVES)}.")
    maker: Callable[..., Objective] = OBJECTIVES[name]
    known = [key for key in inspect.signature(maker).parameters if key not in given]
    if unknown := [key for key in options if key not in known]:
        raise InputError(f"{name} has no option {unknown[0]!r}{nearest(unknown[0], known)} It has: {', '.join(known) or 'none'}.")
    try:
        return maker(**options, **given)
    except TypeError as error:
        raise InputError(f"The options {dict(options)} do not fit {name}: {error}.") from error
