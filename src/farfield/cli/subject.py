"""What `farfield recommend` and `farfield diagnose` look at: a classifier, its ID training data, and ID pictures that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from farfield.cli.app import load_classifier, named, progress_bar, say
from farfield.errors import InputError

PICTURES = 2000  # held-out pictures that are looked at, unless more are asked for


@dataclass(frozen=True)
class Subject:
    """A classifier with its data.

    Args:
        classifier: itself.
        train: ID training data, labelled.
        held: ID pictures that it was not trained on, as squares in memory.
        data: the same as they were given, `train` and `test`.
        names: of the classes.
        ood: real OOD sets by name.
        given: the options that say which data these are, to be quoted in commands.
        options: how the classifier and its data were read, likewise.
    """

    classifier: Any
    train: Any
    held: Any
    data: Mapping[str, Any]
    names: tuple[str, ...]
    ood: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


def subject(
    model: str,
    *,
    suite: str | None,
    id_train: str | None,
    id_held: tuple[str, str | None],
    ood: list[str],
    weights: Path | None,
    preprocess: str | None,
    class_map: Path | None,
    root: Path | None,
    limit: int | None,
    pictures: int,
    random_weights: bool,
    device: str,
) -> Subject:
    """What the options describe; all of it is looked at before anything runs.

    Args:
        model: by name.
        suite: whose training and calibration data are taken; its test data where it has no others.
        id_train: own data in place of a suite.
        id_held: the option of the held-out ID data, and its value.
        ood: NAME=DATA, real OOD sets.
        weights: as elsewhere.
        preprocess: likewise.
        class_map: likewise.
        root: likewise.
        limit: of the training data.
        pictures: at most so many held-out ones, and of each OOD set.
        random_weights: as elsewhere.
        device: likewise.

    Raises:
        InputError: for what does not fit together.
    """
    from farfield import inputs
    from farfield.choose.pseudo import squares
    from farfield.outputs import Outputs
    from farfield.store import Stored

    option, held = id_held
    if suite is None and (id_train is None or held is None):
        raise InputError(f"{'--id-train' if id_train is None else option} is missing: give --id-train and {option}, or --suite.")
    if suite is not None and (double := next((name for name, value in (("--id-train", id_train), (option, held)) if value), None)):
        raise InputError(f"{double} and --suite exclude each other: a suite has its own data.")
    classifier = load_classifier(model, weights=weights, preprocess=preprocess, random_weights=random_weights, device=device)
    sets = _named_sets(ood, root)
    if suite is not None:
        splits, names, given = _of_suite(suite, classifier, model, root, preprocess is None)
    else:
        splits, names = _own({"train": id_train or "", "test": held or ""}, classifier, class_map, root)
        given = {"--id-train": id_train or "", option: held or ""}
    for name, data in {**splits, **sets}.items():
        if isinstance(data, Outputs | Stored):
            raise InputError(f"{name} is what a classifier said already, and pictures are needed, to make others of them. Give pictures.")
    train, some = inputs.limited(splits["train"], limit), inputs.limited(splits["test"], pictures)
    assert not isinstance(some, Outputs | Stored)
    if len(train) < classifier.classes:
        raise InputError(
            f"The ID training data are {len(train)} samples and the model has {classifier.classes} classes; detectors are fitted on at least one of each. "
            "Give more, or raise --limit."
        )
    with progress_bar() as step:
        shown, failed = squares(some, side_of(classifier), name="held-out ID", whole=squashes(classifier.transform), progress=step)
    if failed:
        say(f"warning: {len(failed)} of {len(some)} held-out pictures cannot be read and are left out: {', '.join(f.name for f in failed[:3])}.")
    real = {name: inputs.unlabelled(inputs.limited(data, pictures)) for name, data in sets.items()}
    said = {"--weights": weights, "--preprocess": preprocess, "--class-map": class_map, "--root": None if suite else root}
    options = {option: str(value) for option, value in said.items() if value is not None}
    return Subject(classifier, train, shown, {"train": train, "test": some}, names, real, given, options)


def side_of(classifier: Any) -> int:
    """The pixels of a side of pictures that a classifier's own transform then makes its input: a little more than it sees, where it crops."""
    from farfield.data.transforms import Preprocess

    if isinstance(classifier.transform, Preprocess):
        return int(classifier.transform.resize or classifier.transform.crop)
    sizes = classifier.input_size
    size = next(iter(sizes.values())) if isinstance(sizes, Mapping) else sizes
    side = int(size[-1])
    return side if side < 128 else round(side / 0.875)


def squashes(transform: Any) -> bool:
    """Whether a transform takes the whole picture, its aspect ignored."""
    from farfield.data.transforms import Normalize, Preprocess

    return transform.resize == 0 if isinstance(transform, Preprocess) else isinstance(transform, Normalize) and transform.size is not None


def _named_sets(texts: list[str], root: Path | None) -> dict[str, Any]:
    from farfield import inputs
    from farfield.diagnose.case import check_names

    found: dict[str, Any] = {}
    for text in texts:
        name, place = named("ood", text)
        check_names([name])
        if name in found:
            raise InputError(f"There are two sets called {name!r}. Give each a name of its own.")
        found[name] = inputs.open_data(place, name=name, root=root)
    return found


def _own(texts: Mapping[str, str], classifier: Any, class_map: Path | None, root: Path | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    from farfield import inputs
    from farfield.data.order import read_class_map

    order = None if class_map is None else read_class_map(class_map)
    opened = {name: inputs.open_data(text, name=name, labelled=True, root=root) for name, text in texts.items()}
    mine = {name: inputs.labelled_data(data, classifier.classes, classifier.labels, order) for name, data in opened.items()}
    names = tuple(classifier.labels or ()) or next((found for data in mine.values() if (found := inputs.class_names(data, classifier.classes))), ())
    return mine, names


def _of_suite(
    name: str, classifier: Any, model: str, root: Path | None, as_published: bool
) -> tuple[dict[str, Any], tuple[str, ...], dict[str, str]]:
    """The training data of a suite, and its calibration data, or where there are none its test data."""
    from farfield.cli.bench import published_for
    from farfield.data import suites

    if root is not None and name in suites.SUITES:
        raise InputError(f"--root and --suite {name} exclude each other: it is drawn on the spot.")
    chosen = suites.load(name, root)
    published = None if name in suites.SUITES else suites.definition(name).preprocess
    if as_published and published is not None:
        published_for(classifier, model, published)
    if chosen.classes and classifier.classes != len(chosen.classes):
        raise InputError(
            f"{classifier.name} has {classifier.classes} classes and {name} has {len(chosen.classes)}; it was trained for another suite."
        )
    held = "calibration" if "calibration" in chosen.splits else "test"  # nothing is chosen on test data where there are others
    given = {"--suite": name, **({} if root is None else {"--root": str(root)})}
    return {"train": chosen.split("train"), "test": chosen.split(held)}, chosen.classes, given
