"""Agreement of every detector that pytorch-ood 0.4.0 has in a sound form, on the same data in one process: `python benchmarks/agreement.py`.

Needs `pip install pytorch-ood==0.4.0`. Prints, for each, the largest difference over the largest size of a score, what is allowed and what limits
it; fails if one is beyond. `--freeze` prints its scores of the tiny case of `tests/test_agreement.py`, which are kept there.

`PEERS` are its detectors as functions of outputs, on the literature's scale: where its scores are not simply the negative, the factor is in here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_ood import __version__, detector
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import farfield as ff
import test_agreement as tiny
from farfield.detectors.residual import usual_dim

Scorer = Callable[[ff.Outputs], Tensor]


def head_of(outputs: ff.Outputs) -> nn.Linear:
    assert outputs.head is not None
    layer = nn.Linear(outputs.head.weight.shape[1], outputs.head.weight.shape[0])
    layer.weight.data, layer.bias.data = outputs.head.weight, outputs.head.bias
    return layer.eval()


def of_logits(make: Callable[..., Any], fit: bool = False) -> Callable[..., Scorer]:
    def peer(train: ff.Outputs, **options: Any) -> Scorer:
        made = make(train, **options)
        if fit:
            made.fit_logits(train.logits, train.labels)
        return lambda test: -made.predict_logits(test.logits)

    return peer


def of_features(make: Callable[..., Any], factor: Callable[[ff.Outputs], float] = lambda _: 1.0, unit: bool = False) -> Callable[..., Scorer]:
    def ready(features: Tensor) -> Tensor:
        return nn.functional.normalize(features, dim=1) if unit else features

    def peer(train: ff.Outputs, **options: Any) -> Scorer:
        made, times = make(train, **options), factor(train)
        made.fit_features(ready(train.features), train.labels)
        return lambda test: -times * made.predict_features(ready(test.features))

    return peer


def of_maps(make: Callable[..., Any]) -> Callable[..., Scorer]:
    def peer(train: ff.Outputs, **options: Any) -> Scorer:
        made = make(nn.Sequential(nn.Flatten(), head_of(train)), **options)
        if made.requires_fit:
            made.fit_feature_maps(train.features[:, :, None, None], train.labels)
        return lambda test: -made.predict_feature_maps(test.features[:, :, None, None])

    return peer


def gen(train: ff.Outputs, gamma: float = 0.1, m: int = 100) -> Scorer:
    m = min(m, train.logits.shape[1])
    made = detector.GEN(None, gamma=gamma, M=m)
    return lambda test: -m * made.predict_logits(test.logits)  # theirs is a mean


def gradnorm(train: ff.Outputs) -> Scorer:
    made = detector.GradNorm(head_of(train), param_filter=lambda name: name == "weight")
    return lambda test: -made.predict(test.features)


def residual(train: ff.Outputs) -> Scorer:
    made = vim(train).fit_features(train.features, train.labels)
    return lambda test: -(made.predict_features(test.features) + test.logits.logsumexp(1)) / made.alpha


def vim(train: ff.Outputs) -> Any:
    return detector.ViM(None, usual_dim(train.features.shape[1]), train.head.weight, train.head.bias)


def openmax(train: ff.Outputs, tail: int = 20, alpha: int = 3) -> Scorer:
    made = detector.OpenMax(None, tail, alpha, 1.0).fit_logits(train.logits, train.labels)
    # It measures distances to the classes that are predicted in a batch alone: so a row for each class goes along.
    each = 100 * torch.eye(train.logits.shape[1], dtype=train.logits.dtype)
    return lambda test: -made.predict_logits(torch.cat([test.logits, each]))[: len(test)]


PEERS: dict[str, Callable[..., Scorer]] = {
    "msp": of_logits(lambda _: detector.MaxSoftmax(None)),
    "maxlogit": of_logits(lambda _: detector.MaxLogit(None)),
    "energy": of_logits(lambda _: detector.EnergyBased(None)),
    "entropy": of_logits(lambda _: detector.Entropy(None)),
    "gen": gen,
    "kl-matching": of_logits(lambda _: detector.KLMatching(None), fit=True),
    "openmax": openmax,
    "mahalanobis": of_features(lambda _: detector.Mahalanobis(None), lambda train: 2 * len(train)),  # theirs is half, and of a sum
    "mahalanobis++": of_features(lambda _: detector.Mahalanobis(None), lambda train: 2 * len(train), unit=True),
    "relative-mahalanobis": of_features(lambda _: detector.RMD(None), len),
    "relative-mahalanobis++": of_features(lambda _: detector.RMD(None), len, unit=True),
    "knn": of_features(lambda _, k=50: detector.KNN(None, k=k)),
    "nnguide": of_features(lambda train, k=10: detector.NNGuide(None, head_of(train), k)),
    "she": of_features(lambda train: detector.SHE(None, head_of(train))),
    "residual": residual,
    "vim": of_features(vim),
    "fdbd": of_features(lambda train: detector.fDBD(None, head_of(train))),
    "nci": of_features(lambda train, a=1e-4: detector.NCI(None, head_of(train), alpha=a)),
    "gradnorm": gradnorm,
    "react+energy": of_maps(lambda head: detector.ReAct(None, head, percentile=0.9)),
    "ash-p+energy": of_maps(lambda head: detector.ASH(None, head, variant="ash-p", percentile=0.9)),
    "ash-b+energy": of_maps(lambda head: detector.ASH(None, head, variant="ash-b", percentile=0.65)),
    "ash-s+energy": of_maps(lambda head: detector.ASH(None, head, variant="ash-s", percentile=0.9)),
    "scale+energy": of_maps(lambda head: detector.SCALE(None, head, percentile=0.85)),
    "dice+energy": of_features(lambda train: detector.DICE(None, train.head.weight, train.head.bias, 0.9)),
}


def small() -> tuple[ff.Outputs, ff.Outputs]:
    """400 training samples, all classified rightly, and 100 others, of 32 features and 10 classes, with small logits."""
    random = torch.Generator().manual_seed(0)
    head = ff.Head(torch.randn(10, 32, generator=random) / 6, torch.randn(10, generator=random) / 6)

    def outputs(n: int) -> ff.Outputs:
        features = torch.randn(n, 32, generator=random).relu() + 0.1 * torch.rand(n, 32, generator=random)
        logits = head(features)
        return ff.Outputs(logits, features, logits.argmax(1), head)

    return outputs(400), outputs(100)


@torch.no_grad()
def theirs(name: str, train: ff.Outputs, test: ff.Outputs) -> Tensor:
    return PEERS[name](train, **tiny.LINES[name].options)(test).double()


def freeze() -> None:
    train, test = tiny.tiny()
    for name in tiny.LINES:
        scores = theirs(name, *((tiny.wide(train), tiny.wide(test)) if name == "openmax" else (train, test)))
        print(name, *(f"{score:.8g}" for score in scores.tolist()))


def main() -> None:
    warnings.simplefilter("ignore")
    assert __version__ == "0.4.0", f"The figures are for pytorch-ood 0.4.0; this is {__version__}."
    if "--freeze" in sys.argv:
        return freeze()
    beyond = []
    train, test = small()
    for name, line in tiny.LINES.items():
        both = (tiny.wide(train), tiny.wide(test)) if name == "openmax" else (train, test)
        difference = tiny.difference(tiny.ours(name, *both), theirs(name, *both))
        print(f"{name:24}{difference:9.1e}  allowed {line.tolerance:7.0e}  {line.why}", flush=True)
        if not difference <= line.tolerance:
            beyond.append(name)
    if beyond:
        sys.exit(f"Beyond what is allowed: {', '.join(beyond)}.")


if __name__ == "__main__":
    main()
