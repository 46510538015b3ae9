"""The checks, one function each: what is wrong is the message of its `AssertionError`."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from farfield import detectors, metrics
from farfield.detectors.base import Detector, Exported, Fitter
from farfield.detectors.compose import check_ranges, fit_taps_of, options_of
from farfield.errors import FarfieldWarning, InputError
from farfield.outputs import Data, Outputs
from farfield.testing.worlds import Changed, Counted, World, cast, seen, with_features, world

Arrays = Mapping[str, np.ndarray]
Oracle = Callable[..., np.ndarray]
TOLERANCE = 1e-5
HARDEST = ("uneven units far from zero", "fewer samples than features")  # the worlds of the oracle that unusual options are tried in


def same(outputs: Outputs) -> Outputs:
    """The outputs as they are."""
    return outputs


@dataclass(frozen=True)
class Case:
    """A detector under check.

    Args:
        fit: its fitter.
        unusual: for each option, a call with that option away from its default and whatever else it takes for it to matter, as
            `{"bank": {"bank": 4, "k": 3}}`.
        refused: for each option, a value that must be refused by name.
        oracle: `(train, test, **options) -> scores`, float64 arrays of prepared outputs in (`logits`, `features`, `labels`, `weight`, `bias`), written as the paper
            writes the method, loops and all.
        classes: the detector's own classes, so that it can be loaded.
        prepare: what is done to a world's outputs before the detector sees them, such as `with_groups` for one of grouped heads.
        easy: makes a world in which the method must tell ID from OOD; for one that looks for something else than the usual, as
            `partial(world, loud=True)`.
    """

    fit: Fitter
    unusual: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    refused: Mapping[str, Any] = field(default_factory=dict)
    oracle: Oracle | None = None
    classes: Sequence[type[torch.nn.Module]] = ()
    easy: Callable[[], World] = world
    prepare: Callable[[Outputs], Outputs] = same

    def quiet(self, train: Data, **options: Any) -> Detector:
        """Fits without Farfield's warnings; a detector that looks inside a classifier gets an imagined one."""
        check_ranges(partial(self.fit, **options))
        taps = fit_taps_of(partial(self.fit, **options))

        def change(outputs: Outputs) -> Outputs:
            return seen(self.prepare(outputs), taps)

        if isinstance(train, Outputs):
            train = change(train)
        elif not isinstance(train, Iterator):
            train = Changed(train, change)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FarfieldWarning)
            return self.looking(self.fit(train, **options))

    def looking(self, detector: Detector) -> Detector:
        """The detector, given prepared outputs with the columns of its taps whenever it is called."""
        detector.register_forward_pre_hook(lambda module, args: (seen(self.prepare(args[0]), module.taps()),))
        return detector


def direction(case: Case) -> None:
    """Scores are higher for ID than for OOD on an easy world."""
    easy = case.easy()
    detector = case.quiet(easy.train)
    auroc = metrics.auroc(detector(easy.id), detector(easy.ood))
    assert auroc > 0.9, f"AUROC on an easy world is {auroc:.3f}; higher scores must mean more in-distribution."


def shape_and_type(case: Case) -> None:
    """One finite number per sample, at least float32, also for half and double precision and for no samples."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        some = world(dtype=dtype)
        scores = case.quiet(some.train)(some.id)
        assert scores.shape == (len(some.id),), f"{dtype}: {tuple(scores.shape)} for {len(some.id)} samples."
        assert scores.dtype in (torch.float32, torch.float64), f"{dtype} in gives {scores.dtype} out; at least float32 is needed."
        assert torch.isfinite(scores).all(), f"{dtype} in gives NaN or infinity."
    scores = case.quiet(world().train)(world().id[:0])
    assert scores.shape == (0,), f"No samples give scores of shape {tuple(scores.shape)}."


def precision_agrees(case: Case) -> None:
    """Half-precision inputs score as the same numbers in float32 do."""
    some = world(dtype=torch.float16)
    detector = case.quiet(cast(some.train, torch.float32))
    _close(detector(some.id), detector(cast(some.id, torch.float32)), 1e-6, "float16 inputs and the same numbers in float32")
    _close(detector(cast(some.id, torch.float64)), detector(cast(some.id, torch.float32)), TOLERANCE, "float64 inputs and the same in float32")


def batch_mates(case: Case) -> None:
    """A sample's score does not depend on who is scored with it, nor on their order."""
    some = world()
    detector = case.quiet(some.train)
    together = detector(some.id)
    _close(torch.cat([detector(some.id[i : i + 1]) for i in range(20)]), together[:20], TOLERANCE, "samples alone and together")
    order = torch.randperm(len(some.id), generator=torch.Generator().manual_seed(1))
    _close(detector(some.id[order]), together[order], TOLERANCE, "samples in two orders")


def purity(case: Case) -> None:
    """Same in, same out; inputs untouched; no gradients, in training mode or out."""
    some = world()
    before = {name: column.clone() for name, column in {**some.train.columns(), **some.id.columns()}.items()}
    detector = case.quiet(some.train)
    first = detector(some.id)
    for name, column in {**some.train.columns(), **some.id.columns()}.items():
        assert torch.equal(column, before[name]), f"`{name}` was changed in place."
    assert torch.equal(first, case.quiet(some.train)(some.id)), "Two fits on the same data differ."
    assert torch.equal(first, detector.train()(some.id)), "Scores change in training mode."
    assert not any(parameter.requires_grad for parameter in detector.parameters()), "The detector has parameters that want gradients; use buffers."
    columns = some.id.columns()
    wanting = some.id.having(**{name: columns[name].requires_grad_() for name in detector.needs if name in columns})
    assert not detector(wanting).requires_grad, "Scores carry gradients."


def chunks_agree(case: Case) -> None:
    """Fitting chunk by chunk, or on rows in another order, gives what fitting on all at once gives, in as many passes as declared."""
    some = world(n=1200)
    whole = case.quiet(some.train)(some.id)
    chunked = Counted([some.train[start : start + 170] for start in range(0, 1200, 170)])
    detector = case.quiet(chunked)
    _close(detector(some.id), whole, TOLERANCE, "a fit in chunks and a fit at once")
    assert chunked.passes == detector.passes, f"`fit` went over the data {chunked.passes} times and declares passes = {detector.passes}."
    for options in case.unusual.values():
        expected = case.quiet(some.train, **options)(some.id)
        _close(case.quiet(chunked, **options)(some.id), expected, TOLERANCE, f"a fit in chunks and at once with {dict(options)}")
    order = torch.randperm(1200, generator=torch.Generator().manual_seed(2))
    _close(case.quiet(some.train[order])(some.id), whole, TOLERANCE, "fits on rows in two orders")
    try:
        case.quiet(iter([some.train]))
    except InputError:
        return
    raise AssertionError("A generator, which can be used up, is taken as training data; use `farfield.outputs.validated`.")


def reload(case: Case) -> None:
    """A saved detector scores bit for bit as before, with unusual options too, and keeps its fingerprint."""
    some = world()
    marked = replace(some.train, fingerprint="abc")
    for options in ({}, *case.unusual.values()):
        detector = case.quiet(marked, **options)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "detector.safetensors"
            detector.save(path)
            again = case.looking(detectors.load(path, classes=case.classes))
        assert torch.equal(again(some.id), detector(some.id)), f"The saved detector scores differently with options {options}."
        assert again.fingerprint == "abc", "The fingerprint of the classifier is lost; set `detector.fingerprint` in `fit`."
    message = _refusal(case.quiet(marked), replace(some.id, fingerprint="xyz"))
    assert message and "xyz" in message, "Outputs of another classifier are scored."


def bad_data(case: Case) -> None:
    """NaN and infinity in what `fit` reads are named by field and row; each need that is missing is named."""
    some = world()
    detector = case.quiet(some.train)
    read = detector.fit_needs
    for need in (n for n in read if n in ("logits", "features")):
        for value, kind in ((torch.nan, "NaN"), (torch.inf, "infinity")):
            column = some.train.columns()[need].clone()
            column[17, 1] = value
            message = _refusal(lambda c=column, n=need: case.quiet(replace(some.train, **{n: c})))
            assert message and f"`{need}`" in message and kind in message and "17" in message, f"{kind} in `{need}` at row 17: {message}"
    for need in (n for n in read if n == "head" or n in some.train.columns()):
        lacking = replace(some.train, head=None) if need == "head" else some.train.having(**{need: None})
        message = _refusal(case.quiet, lacking)
        assert message and f"`{need}`" in message, f"Training outputs without `{need}`: {message}"
    for need in set(detector.needs) & some.id.columns().keys():
        message = _refusal(detector, some.id.having(**{need: None}))
        assert message and f"`{need}`" in message, f"Scoring outputs without `{need}`: {message}"
    if "labels" in read:
        for label in (-1, 8):
            labels = some.train.columns()["labels"].clone()
            labels[3] = label
            message = _refusal(case.quiet, some.train.having(labels=labels))
            assert message and f"row 3 has {label}" in message, f"A label {label} of 8 classes: {message}"
    assert _refusal(case.quiet, some.train[:0]), "No samples are taken as training data."


def degenerate(case: Case) -> None:
    """Few, missing, constant, repeated or zero data give a right answer or a clear error, never NaN."""
    some = world()
    assert some.train.features is not None and some.train.labels is not None
    constant = some.train.features.clone()
    constant[:, :5] = 0.1
    flat = torch.full_like(some.train.features, 0.1)
    copied = torch.cat([some.train.features[:, :12], 1.5 * some.train.features[:, :12]], 1)
    half = torch.cat([torch.zeros_like(some.train.features[:200]), some.train.features[200:]])
    worlds = {
        "fewer samples than features": some.train[:20],
        "one sample per class": some.train[:8],
        "one sample": some.train[:1],
        "a missing class": some.train[(some.train.labels != 3).nonzero()[:, 0]],
        "five constant features": with_features(some.train, constant),
        "all features constant": with_features(some.train, flat),
        "copied and scaled features": with_features(some.train, copied),
        "duplicate rows": some.train[torch.arange(400) % 40],
        "zero rows": with_features(some.train, half),
    }
    for name, train in worlds.items():
        for options in ({}, *case.unusual.values()):
            detector = _fitted_or_refused(case, train, options, name)
            if detector is not None:
                for what, outputs in {"ID": some.id, "OOD": some.ood, "the zero vector": with_features(some.id, torch.zeros(80, 24))}.items():
                    assert torch.isfinite(detector(outputs)).all(), f"{name}: the scores of {what} have NaN or infinity."


def options_matter(case: Case) -> None:
    """Every option is covered, changes the score, and refuses a bad value by name."""
    some = case.easy()
    for option in options_of(case.fit):
        assert option in case.unusual, f"The option {option!r} has no unusual value to be tested at; add it to `unusual`."
        assert option in case.refused, f"The option {option!r} has no value that it must refuse; add it to `refused`."
        call = case.unusual[option]
        without = {name: value for name, value in call.items() if name != option}
        changed, usual = case.quiet(some.train, **call), case.quiet(some.train, **without)
        same = all(torch.equal(changed(outputs), usual(outputs)) for outputs in (some.id, some.ood))
        assert not same, f"Setting {option}={call[option]!r} changes no score."
        message = _refusal(case.quiet, some.train, **{option: case.refused[option]})
        assert message and option in message, f"{option}={case.refused[option]!r} is not refused by name: {message}"


def oracle_agrees(case: Case) -> None:
    """Scores are those of a float64 loop to 1e-5: usual options and unusual, far from zero, unevenly scaled, few samples, large margins."""
    if case.oracle is None:
        return
    worlds = {
        "an easy world": world(),
        "features a thousand units from zero": world(offset=1000.0),
        "uneven units": world(uneven=True),
        "uneven units far from zero": world(uneven=True, offset=100.0),
        "fewer samples than features": world(n=60, d=96),
        "many classes": world(n=900, d=32, c=60),
    }
    for name, some in worlds.items():
        for options in ({}, *(case.unusual.values() if name in HARDEST else ())):
            detector = case.quiet(some.train, **options)
            for test in (some.id, some.ood):
                expected = case.oracle(arrays(case.prepare(some.train)), arrays(case.prepare(test)), **options)
                _close(detector(test), torch.from_numpy(np.asarray(expected)), TOLERANCE, f"the oracle, in {name} with {dict(options)},")


def exports(case: Case) -> None:
    """`torch.export` and, where installed, ONNX give the same scores on another batch size; or the class says why not."""
    some = world()
    for options in ({}, *case.unusual.values()):
        detector = case.quiet(some.train, **options)
        if detector.exportable is not True:
            assert isinstance(detector.exportable, str), "`exportable` must be True or a sentence that says why not."
            return
        inputs = tuple(case.prepare(some.id).columns()[need][:7] for need in detector.needs)
        batch = torch.export.Dim("n", min=1)
        module = Exported(detector).eval()
        program = torch.export.export(module, inputs, dynamic_shapes={"tensors": tuple({0: batch} for _ in inputs)})
        others = tuple(case.prepare(some.ood).columns()[need] for need in detector.needs)
        _close(program.module()(*others), detector(some.ood), TOLERANCE, "the exported program on another batch size")
    if all(find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime")):
        _close(_through_onnx(program, others), detector(some.ood), TOLERANCE, "ONNX on another batch size")


def _through_onnx(program: torch.export.ExportedProgram, inputs: tuple[Tensor, ...]) -> Tensor:
    """Scores by onnxruntime."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "detector.onnx"
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
        assert exported is not None
        exported.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        named = zip(session.get_inputs(), inputs, strict=True)
        return torch.from_numpy(session.run(None, {given.name: value.numpy() for given, value in named})[0])


CHECKS: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        direction,
        shape_and_type,
        precision_agrees,
        batch_mates,
        purity,
        chunks_agree,
        reload,
        bad_data,
        degenerate,
        options_matter,
        oracle_agrees,
        exports,
    )
}


def arrays(outputs: Outputs) -> Arrays:
    """What an oracle gets: everything as float64."""
    assert outputs.head is not None
    columns = {**outputs.columns(), "weight": outputs.head.weight, "bias": outputs.head.bias}
    return {name: column.numpy() if name in ("labels", "ids") else column.double().numpy() for name, column in columns.items()}


def _close(scores: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Asserts relative agreement, sample by sample; a thousandth of the scores' spread counts as the least size of a score."""
    a, b = scores.double(), expected.double()
    floor = 1e-3 * b.std() if len(b) > 1 else 0.0
    error = float(((a - b).abs() / (b.abs() + floor).clamp_min(1e-300)).max()) if len(b) else 0.0
    assert error <= tolerance, f"{what} differs from these scores by {error:.1e} relative; at most {tolerance:.0e} is allowed."


def _refusal(call: Callable[..., object], *arguments: object, **options: object) -> str | None:
    """The message of the `InputError` a call raises, if it raises one."""
    try:
        call(*arguments, **options)
    except InputError as error:
        return str(error)
    return None


def _fitted_or_refused(case: Case, train: Outputs, options: Mapping[str, Any], name: str) -> Detector | None:
    try:
        return case.quiet(train, **options)
    except InputError as error:
        assert len(str(error)) > 20, f"{name}: refused with {str(error)!r}, which does not say what to do."
        return None
