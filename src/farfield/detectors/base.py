"""What a detector is: a module from `Outputs` to one number per sample, higher meaning more in-distribution.

A detector's constructor takes its fitted state: tensors, which become buffers, and plain settings. `fit` computes that state from
training outputs and is the only way users make one. `score` is the method itself, a pure function of the tensors named in
`needs`; it is what gets exported.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from farfield.errors import FarfieldWarning, InputError, OptionError
from farfield.files import put
from farfield.outputs import Data, Head, Outputs, chunks, count
from farfield.taps import Tap

Setting = int | float | bool | str | None
LARGE = 2**30  # bytes of a tensor beyond which it is neither copied nor, where a file can hold it, kept in memory


def at_least_float32(x: Tensor) -> Tensor:
    """Half-precision numbers as float32; others as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def require(condition: bool, method: str, option: str, value: object, rule: str) -> None:
    """Raises `OptionError` unless an option's value obeys its rule, such as `k >= 1`."""
    if not condition:
        raise OptionError(f"{method} needs {rule}; got {option}={value!r}.")


def warn(message: str) -> None:
    """A `FarfieldWarning` at the caller of `fit`."""
    warnings.warn(message, FarfieldWarning, stacklevel=3)


SIGNED = 0.01  # the share of features below 0 from which on they are not those of a ReLU


def expect_relu(chunk: Outputs, method: str) -> None:
    """A `FarfieldWarning` where a method that is made for features after a ReLU gets others; from one chunk, as cheap as a mean."""
    assert chunk.features is not None
    share = float((chunk.features < 0).double().mean())
    if share > SIGNED:
        warnings.warn(
            f"{method} is made for features after a ReLU, and {100 * share:.1f} % of those of the first {len(chunk)} training samples are below 0: "
            "measure it before you rely on it, or take `relative-mahalanobis`, or `knn` where there are no labels.",
            FarfieldWarning,
            stacklevel=3,
        )


class _Fitted(nn.Module):
    """State given by name: tensors as buffers, everything else as settings that are saved beside them."""

    use: str = ""  # one sentence: when to take it
    fails: str = ""  # one sentence: where it is known to fail; empty where nothing is known
    cost: str = ""  # of scoring a sample and of fitting n; d features, c classes; what it keeps, where that is much
    needs: tuple[str, ...]
    paper: str
    search: Mapping[
        str, tuple[Setting, ...]
    ] = {}  # of each option that `farfield tune` tries, the values: the default, and those of papers and sweeps
    of_classes: tuple[str, ...] = ()  # options that count classes: beyond the number of classes all values are one

    def __init__(self, *, fingerprint: str | None = None, **state: Tensor | Setting) -> None:
        super().__init__()
        self.fingerprint = fingerprint
        self.settings: dict[str, Setting] = {}
        for name, value in state.items():
            if isinstance(value, Tensor):
                own = value.detach().contiguous()
                self.register_buffer(name, own.clone() if own.nbytes < LARGE else own)  # a large one stays mapped
            else:
                self.settings[name] = value

    def _tensors(self, outputs: Outputs) -> list[Tensor]:
        """The columns this module reads."""
        if None not in (self.fingerprint, outputs.fingerprint) and self.fingerprint != outputs.fingerprint:
            raise InputError(
                f"This {type(self).__name__} was fitted on classifier {self.fingerprint} and cannot judge outputs of {outputs.fingerprint}. Fit it again."
            )
        columns = outputs.columns()
        for need in self.needs:
            if need not in columns:
                raise InputError(f"{type(self).__name__} needs `{need}`, which these outputs lack.")
        return [at_least_float32(columns[need]) for need in self.needs]


class Detector(_Fitted):
    """The base of every detector. A subclass is final and says:

    - `needs`: which columns `score` reads; `fit_needs`: which `fit` reads (columns, or `head`);
    - `passes`: how many times `fit` goes over the data; `paper`: where the method comes from;
    - `exportable`: whether `torch.export` and ONNX can take `score`, or a sentence why not;
    - `fit(train, *, options...)` and `score(*tensors)`;
    - where logits and features are not enough, `fit_taps(options...)` and `taps()`: the further columns of the training data, and of what is
      scored; `most`, how many training samples `fit` has use for (of more, a seeded choice is taken);
    - `calibrated`: whether `fit` takes ID data that the classifier was not trained on as a second argument.
    """

    fit_needs: tuple[str, ...]
    passes: int
    exportable: bool | str = True
    most: int | None = None
    calibrated = False

    @classmethod
    def fit_taps(cls, **options: Any) -> tuple[Tap, ...]:
        """The taps whose columns `fit` reads, with the options of `fit`."""
        return ()

    def taps(self) -> tuple[Tap, ...]:
        """The taps whose columns `score` reads."""
        return ()

    @classmethod
    def fit(cls, train: Data) -> Detector:
        """A detector from a classifier's outputs on its training data."""
        raise NotImplementedError

    def score(self, *tensors: Tensor) -> Float[Tensor, " n"]:
        """One number per sample from the columns in `needs`, in that order."""
        raise NotImplementedError

    def rows(self) -> int:
        """How many samples to score at once: so few that temporaries stay in the processor's cache, which is also what bounds them."""
        return 512

    def save(self, path: str | Path) -> None:
        """Writes the detector to one safetensors file; `farfield.load` reads it."""
        write(self, path)

    def forward(self, outputs: Outputs) -> Float[Tensor, " n"]:
        """One number per sample, higher meaning more in-distribution; at least float32."""
        tensors = self._tensors(outputs)
        with torch.no_grad():
            blocks = zip(*(column.split(self.rows()) for column in tensors), strict=True)
            try:
                return torch.cat([self.score(*block) for block in blocks])
            except RuntimeError as error:
                if "size" not in str(error) and "shape" not in str(error):
                    raise
                widths = ", ".join(f"`{need}` {tuple(column.shape)}" for need, column in zip(self.needs, tensors, strict=True))
                raise InputError(
                    f"This {type(self).__name__} was fitted on outputs of another width than these, which have {widths}. They are of another model."
                ) from error


class Shaper(_Fitted):
    """The base of what changes features before a scorer sees them: from `Outputs` to `Outputs`.

    A subclass is final, has `fit` as a detector has, and `shape(features)`. The logits that go on are those of the
    shaped features; predictions and accuracy are to be read from the outputs that came in.
    """

    needs = ("features",)
    weight: Tensor
    bias: Tensor
    fit_needs: tuple[str, ...]
    passes: int

    @classmethod
    def fit(cls, train: Data) -> Shaper:
        """A shaper from a classifier's outputs on its training data."""
        raise NotImplementedError

    def shape(self, features: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The features a scorer is to see."""
        raise NotImplementedError

    def shaped(self, features: Float[Tensor, "n d"]) -> dict[str, Tensor]:
        """The shaped features and their logits."""
        features = self.shape(at_least_float32(features))
        return {"features": features, "logits": features @ self.weight.T.to(features) + self.bias.to(features)}

    def forward(self, outputs: Outputs) -> Outputs:
        """The outputs with shaped features, and the logits of those."""
        (features,) = self._tensors(outputs)
        with torch.no_grad():
            return outputs.having(**self.shaped(features))


Fitter = Callable[..., Detector]


class Chain(Detector):
    """A shaper and the scorer fitted on what it lets through; made by `chain`."""

    def __init__(self, *, shaper: Shaper, scorer: Detector) -> None:
        if scorer.taps():
            raise InputError(f"{type(scorer).__name__} looks inside the classifier, where no shaper goes before it. Take it alone.")
        super().__init__(fingerprint=scorer.fingerprint)
        self.shaper, self.scorer = shaper, scorer
        self.needs = _joined(shaper.needs, scorer.needs)
        self.fit_needs = _joined(shaper.fit_needs, scorer.fit_needs)
        self.passes = shaper.passes + scorer.passes
        self.paper = f"{shaper.paper}; {scorer.paper}"
        self.exportable = scorer.exportable

    def score(self, *tensors: Tensor) -> Float[Tensor, " n"]:
        """The scorer's number for the shaped features."""
        columns = dict(zip(self.needs, tensors, strict=True))
        columns.update(self.shaper.shaped(columns["features"]))
        return self.scorer.score(*(columns[need] for need in self.scorer.needs))

    def rows(self) -> int:
        """As the scorer."""
        return self.scorer.rows()


def _joined(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    """What a chain reads: what its shaper reads, and what its scorer reads that the shaper does not make."""
    return tuple(dict.fromkeys((*first, *(need for need in second if need not in ("features", "logits")))))


class Shaped:
    """Training data as a shaper lets it through: iterable as often as the data behind it."""

    def __init__(self, train: Data, shaper: Shaper) -> None:
        self.train, self.shaper, self.samples = train, shaper, count(train)

    def __iter__(self) -> Iterator[Outputs]:
        yield from map(self.shaper, chunks(self.train))


def head_of(train: Data, method: str) -> Head:
    """The head the data carry."""
    first = train if isinstance(train, Outputs) else next(iter(train), None)
    if first is None or first.head is None:
        raise InputError(
            f"{method} needs `head`, which these outputs lack: give `Outputs(..., head=Head(weight, bias))`, or collect from a model with one."
        )
    return first.head


def fingerprint_of(train: Data) -> str | None:
    """Which classifier the data came from, if they say."""
    first = train if isinstance(train, Outputs) else next(iter(train), None)
    return None if first is None else first.fingerprint


class Exported(nn.Module):
    """A detector as a module of plain tensors, for `torch.export` and ONNX: its inputs are `detector.needs`, in order."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, *tensors: Tensor) -> Tensor:
        """One number per sample."""
        return self.detector.score(*(at_least_float32(tensor) for tensor in tensors))


def describe(module: nn.Module) -> dict[str, Any]:
    """Class names and settings of a detector and the detectors in it, as plain data."""
    described: dict[str, Any] = {"class": type(module).__name__, "settings": getattr(module, "settings", {})}
    parts = {name: describe(child) for name, child in module.named_children()}
    return described | ({"parts": parts} if parts else {})


FORMAT = 1


def write(detector: Detector, path: str | Path) -> None:
    """One safetensors file: tensors, and the rest as JSON in its header. The old file stays until the new one is whole."""
    header = {"format": FORMAT, "fingerprint": detector.fingerprint, "detector": describe(detector)}
    tensors = {name: value.contiguous() for name, value in detector.state_dict().items()}
    try:
        put(path, lambda partial: save_file(tensors, partial, metadata={"farfield": json.dumps(header)}))
    except (OSError, SafetensorError) as error:
        raise InputError(f"The detector cannot be written to {path}: {error}. Give another path.") from error
