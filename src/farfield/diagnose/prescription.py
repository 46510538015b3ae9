"""What can be done, the cheapest first, and what each gains, measured on held-out ID pictures and pseudo-OOD; nothing of it is chosen by real OOD sets."""

from __future__ import annotations

import copy
import math
import shlex
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool

from farfield import metrics, recipes
from farfield.choose import Comparison, Figure, Material, compare
from farfield.choose.comparison import figure, some
from farfield.classifier import Classifier
from farfield.collect import collect
from farfield.detectors.compose import calibrated, fit_taps_of, fitted
from farfield.diagnose.case import Work
from farfield.diagnose.commands import Trial
from farfield.errors import InputError
from farfield.identity import hash_of
from farfield.outputs import Outputs
from farfield.store import Stored

Cost = Literal["free", "seconds", "minutes", "hours"]
COSTS: tuple[Cost, ...] = ("free", "seconds", "minutes", "hours")
TRIED = ("augdelete", "sft", "mos")  # what `--try` takes: all that starts from the classifier at hand
BOUND = 0.01  # of accuracy that a fix may lose
ERROR = 0.05  # of an interval


@dataclass(frozen=True)
class Remedy:
    """Something that can be done.

    Args:
        name: of it.
        cost: about how long it takes.
        said: what it is, and what it gained if it was measured.
        command: that does it.
        tried: whether its gain was measured.
        detector: that the figures after are of.
        before: the mean AUROC on pseudo-OOD of the detector in use.
        after: that of `detector`, with the remedy.
        gain: how much higher that is, with its interval, on the same pictures.
        accuracy_change: of the classifier on the held-out pictures, with its interval; `None` where it is the same classifier, or nothing is labelled.
        note: what else is to be known.
        model: the folder of the new model, where it made one.
    """

    name: str
    cost: Cost
    said: str
    command: str
    tried: bool = False
    detector: str = ""
    before: Figure | None = None
    after: Figure | None = None
    gain: Figure | None = None
    accuracy_change: tuple[float, tuple[float, float]] | None = None
    note: str = ""
    model: str = ""

    @property
    def helps(self) -> bool:
        """Whether its gain is above 0 beyond chance."""
        return self.gain is not None and self.gain.interval[0] > 0

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def prescribe(work: Work, trial: Trial) -> list[Remedy]:
    """Every remedy there is for the classifier, the cheapest first.

    Formula: a gain is the difference of two means of AUROCs over the kinds of pseudo-OOD, see `choose.recommend`, the detector in use before, and the
    remedy's after, on the same pictures (`metrics.linked_test`); that of another detector has an interval for the best of so many (Bonferroni). A change of accuracy is the mean of what each held-out picture gained, 1, 0 or -1, with a normal interval.

    Args:
        work: of `diagnose.gather`.
        trial: what to try.

    Raises:
        InputError: when something that is to be tried cannot be.
    """
    if unknown := next((name for name in trial.names if name not in TRIED), None):
        raise InputError(f"There is nothing called {unknown!r} to try. There are: {', '.join(TRIED)}.")
    found = [
        *_another_detector(work, trial),
        *_temperature(work, trial),
        _augdelete(work, trial),
        _finetuned(work, trial, "sft"),
        _finetuned(work, trial, "mos"),
    ]
    found.append(
        Remedy(
            "AugRevise",
            "hours",
            "Training from the start, with mixtures that leave the maximal logits of single pictures alone. Its gain shows after training only.",
            trial.training("train", "--recipe", "augrevise", "--model", trial.source),
        )
    )
    return sorted(found, key=lambda remedy: COSTS.index(remedy.cost))


def _another_detector(work: Work, trial: Trial) -> list[Remedy]:
    best, current = work.case.recommendation.best, work.case.current
    if best == current:
        return []
    remedy = Remedy("another detector", "free", f"`{best}` in place of `{current}`.", trial.detecting(best, calibrated(work.fitters[best])))
    others = len(work.comparison.pieces) - 1  # that it is the best of, on these very pictures
    return [_measured(work, remedy, work.comparison, best, others)]


def _temperature(work: Work, trial: Trial) -> list[Remedy]:
    if "temperature" not in work.comparison.pieces or work.case.current == "temperature":
        return []
    said = "One number that logits are divided by, found on ID pictures, so that probabilities say how often they are right."
    remedy = Remedy("temperature", "seconds", said, trial.detecting("temperature", calibrates=True))
    return [_measured(work, remedy, work.comparison, "temperature")]


def _measured(work: Work, remedy: Remedy, after: Comparison, detector: str, others: int = 1) -> Remedy:
    """The remedy with its figures; the interval of the gain is for the best of so many others (Bonferroni)."""
    both = {kind for kind, _ in after.pieces[detector]} & {kind for kind, _ in work.comparison.pieces[work.case.current]}
    before, now = work.comparison.whole(work.case.current, both), after.whole(detector, both)
    test = metrics.linked_test(now, before, level=1 - ERROR / others)
    return replace(remedy, tried=True, detector=detector, before=figure(before), after=figure(now), gain=Figure(test.difference, test.interval))


# --- remedies that train ------------------------------------------------------------------------------------------------------------------


def _folder(work: Work, trial: Trial, name: str) -> Path:
    """Where a remedy's run is kept: each classifier with its data has one of its own, so that no other's is taken for it, or gone on with."""
    train = work.case.train
    facts = (
        work.case.classifier.fingerprint(),
        train.folder.name if isinstance(train, Stored) else "",
        trial.source,
        trial.model,
        dict(trial.data.told),
    )
    return work.out / "tried" / f"{name}-{hash_of(*facts)[:8]}"


def _augdelete(work: Work, trial: Trial) -> Remedy:
    """The last layer at the optimum of plain cross-entropy, on features that are stored: no pass of the classifier."""
    remedy = Remedy(
        "AugDelete",
        "seconds",
        "The last layer alone, trained anew without smoothed labels and mixtures.",
        trial.training("finetune", "augdelete", "--model", trial.model),
    )
    head = work.case.classifier.head
    if head is None or head.groups is not None:
        why = "The classifier has no linear head" if head is None else "The head has a softmax in each of several groups"
        return replace(remedy, note=f"{why}, so there is no last layer to train anew.")
    if "augdelete" not in trial.names:
        return remedy
    began, folder = time.perf_counter(), _folder(work, trial, "augdelete")
    changed = copy.deepcopy(work.case.classifier)
    data = replace(trial.data, train=work.case.train, drawn=None)
    recipes.augdelete(changed, recipes.Setting(trial.source, data, trial.model), folder, progress=work.options.get("progress"))
    new = changed.head
    assert new is not None

    def reheaded(outputs: Outputs | Stored) -> Outputs:
        whole = some(outputs)
        assert whole.features is not None
        return replace(whole, logits=new(whole.features.float()), head=new, fingerprint=None)

    def said(name: str, pictures: Any) -> Outputs | Stored:
        return collect(work.case.classifier, pictures, out=work.out / "store", name=name, **work.options)

    material = Material(
        {name: reheaded(said(name, pictures)) for name, pictures in work.material.splits.items()},
        {name: reheaded(said(name, pictures)) for name, pictures in work.material.sets.items()},
        work.material.made,
    )
    fitters = {name: fitter for name, fitter in work.fitters.items() if name in work.comparison.pieces}
    after = compare(None, material, fitters, out=folder, seed=work.seed, progress=work.options.get("progress"))
    return _trained(work, remedy, after, reheaded(work.case.test), time.perf_counter() - began, folder)


def _finetuned(work: Work, trial: Trial, name: str) -> Remedy:
    """A copy of the classifier trained further by a recipe."""
    entry = recipes.RECIPES[name]
    says = {
        "sft": ("SFT", "Fifty sharpness-aware steps with outliers made of the training pictures."),
        "mos": ("MOS head", "A softmax in each of several groups of classes, on the features as they are; its detector is `mos`."),
    }
    title, said = says[name]
    groups = () if name != "mos" or trial.data.taxonomy else ("--groups", "kmeans")  # as they are tried here
    remedy = Remedy(title, "minutes", said, trial.training("finetune", name, *groups, "--model", trial.model))
    if work.case.classifier.head is None:
        return replace(remedy, note="The classifier has no linear head.")
    if name not in trial.names:
        return remedy
    began, folder = time.perf_counter(), _folder(work, trial, name)
    changed, step = copy.deepcopy(work.case.classifier), work.options.get("progress")
    setting = recipes.Setting(trial.source, trial.data, trial.model)
    if name == "mos":
        how = "suite" if trial.data.taxonomy else "kmeans"
        setting = replace(setting, groups=recipes.groups_of(how, changed, setting, folder, seed=entry.recipe.seed, progress=step))
    torch.manual_seed(entry.recipe.seed)
    if not (folder / "model.safetensors").exists():
        recipes.run(changed, name, entry, setting, folder, progress=step)
    made = Classifier.load(str(folder)).to(work.case.classifier.device)
    made.name = f"{work.case.classifier.name}, {title}"
    after = compare(made, work.material, work.fitters, out=work.out, seed=work.seed, names=work.case.names, **work.options)
    held = work.case.pictures["test"]
    test = collect(made, held, out=work.out / "store", name="held out", **work.options).load()
    return _trained(work, remedy, after, test, time.perf_counter() - began, folder)


def _trained(work: Work, remedy: Remedy, after: Comparison, test: Outputs, seconds: float, folder: Path) -> Remedy:
    """A remedy that made another classifier: with the detector in use where that takes it, else with the best."""
    current = work.case.current
    best = max(after.pieces, key=lambda name: figure(after.whole(name)).auroc)
    detector = current if current in after.pieces else "mos" if "mos" in after.pieces else best
    measured = _measured(work, remedy, after, detector)
    former = work.case.recommendation.best
    # a grouped head has no classes to leave out
    both = {kind for kind, _ in after.pieces[best]} & {kind for kind, _ in work.comparison.pieces[former]}
    old, new = figure(work.comparison.whole(former, both)), figure(after.whole(best, both))
    note = (
        f"Tried in {seconds:.0f} s, with `{detector}`. The best detector has {100 * new.auroc:.1f} after it (`{best}`), {100 * old.auroc:.1f} before."
    )
    return replace(measured, note=note, model=str(folder), accuracy_change=accuracy_change(work.case.test, test))


def accuracy_change(before: Outputs, after: Outputs) -> tuple[float, tuple[float, float]] | None:
    """By how much the accuracy changes on the same pictures, with a 95 % interval; `None` without labels.

    Formula: the mean of `d_i`, 1 where a picture is told rightly only after, -1 where only before, and `mean -+ 1.96 sd / sqrt(n)`.

    >>> logits, labels = torch.eye(2)[[0, 0, 1, 1]], torch.tensor([0, 1, 1, 1])
    >>> accuracy_change(Outputs(logits=logits, labels=labels), Outputs(logits=torch.eye(2)[[0, 1, 1, 1]], labels=labels))[0]
    0.25
    """
    if before.labels is None or not bool((known := before.labels >= 0).any()):
        return None
    change = (_right(after, known).astype(int) - _right(before, known).astype(int)).astype(np.float64)
    half = 1.96 * float(change.std(ddof=1)) / math.sqrt(len(change)) if len(change) > 1 else 1.0
    mean = float(change.mean())
    return mean, (mean - half, mean + half)


def _right(outputs: Outputs, known: torch.Tensor) -> Bool[np.ndarray, " n"]:
    assert outputs.labels is not None
    right: np.ndarray = (outputs.predictions() == outputs.labels)[known].cpu().numpy()
    return right


# --- doing it -----------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fix:
    """What `--fix` did.

    Args:
        remedy: that it took; `None` where none of those measured helps.
        said: what was done, or why nothing was.
        written: what it wrote.
    """

    remedy: Remedy | None
    said: str
    written: Path | None = None


def fix(work: Work, remedies: Sequence[Remedy], bound: float = BOUND, trial: Trial | None = None) -> Fix:
    """Does the cheapest remedy that helps, of those that were measured, and loses no more than `bound` of accuracy; `trial` fills in the next command."""
    helping = [remedy for remedy in remedies if remedy.helps]
    lossy = [remedy for remedy in helping if remedy.accuracy_change is not None and remedy.accuracy_change[0] < -bound]
    chosen = next((remedy for remedy in helping if remedy not in lossy), None)
    losses = [f"{remedy.name} would lose {-100 * remedy.accuracy_change[0]:.1f} points of accuracy" for remedy in lossy if remedy.accuracy_change]
    refused = f" {'; '.join(losses)}, and {100 * bound:.1f} are allowed." if losses else ""
    if chosen is None:
        measured = ", ".join(remedy.name for remedy in remedies if remedy.tried) or "none"
        return Fix(None, f"Nothing was done: no remedy that was measured ({measured}) has a gain that is told from 0.{refused}")
    assert chosen.before is not None and chosen.after is not None
    change = f"mean AUROC on pseudo-OOD {100 * chosen.before.auroc:.1f} before, {100 * chosen.after.auroc:.1f} after"
    if chosen.model:
        written = Path(chosen.model)
        again = "farfield diagnose MODEL --id-train TRAIN --id-test HELD_OUT"
        if trial is not None:  # the folder has its weights, and says how they take pictures
            kept = {option: value for option, value in trial.options.items() if option not in ("--weights", "--preprocess")}
            again = replace(trial, model=str(written), options=kept).filled(again)
        return Fix(chosen, f"{chosen.name}: {change}. Next: {again}.{refused}", written)
    written = work.out / "detector.safetensors"
    calibration = work.material.splits.get("calibration")
    held = None if calibration is None else collect(work.case.classifier, calibration, out=work.out / "store", name="calibration", **work.options)
    fitter = work.fitters[chosen.detector]
    train = collect(
        work.case.classifier, work.material.splits["train"], out=work.out / "store", name="train", taps=fit_taps_of(fitter), **work.options
    )
    fitted(fitter, train, held).save(written)
    command = f"farfield score {shlex.quote(str(written))} PICTURES --model MODEL"
    said = f"{chosen.name}, `{chosen.detector}`: {change}. Next: {command if trial is None else trial.filled(command)}.{refused}"
    return Fix(chosen, said, written)
