"""From what a person writes (a folder, a list, an array, a name) to data."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from farfield import plugins
from farfield.classifier import Classifier
from farfield.collect import contents
from farfield.data.files import Files, folder, is_picture
from farfield.data.hub import Hub, load_hub
from farfield.data.images import Images, Suite, kept_parts
from farfield.data.lists import image_list
from farfield.data.order import with_classes
from farfield.detectors.base import Detector
from farfield.errors import InputError, nearest
from farfield.loading import Pictures
from farfield.outputs import Head, Outputs
from farfield.stats import hashed
from farfield.store import Stored, digest_of

ARRAYS = (".npy", ".npz", ".safetensors")
LISTS = (".txt", ".csv", ".lst", ".list", ".imglist")
COLUMNS = ("logits", "features", "labels", "ids", "head.weight", "head.bias", "head.groups")
Data = Pictures | Outputs | Stored


def open_data(text: str, *, name: str | None = None, labelled: bool = False, root: str | Path | None = None) -> Data:
    """The data a text means.

    - a folder of pictures (with `labelled`, one sub-folder a class), a folder of `.npy` arrays, or the folder of a store;
    - an image list (`.txt`, `.csv`, `.lst`), its paths relative to `root` or to its own folder;
    - arrays (`.npy`, `.npz`, `.safetensors`): a classifier's logits, features, labels, `head.weight` and `head.bias`;
    - `hf:NAME[:SPLIT]`, a Hugging Face data set; `python:module:function`, a function that returns a data set or `Outputs`.

    Raises:
        InputError: when there is no such thing, or it is empty or broken.
    """
    kind, _, rest = text.partition(":")
    if kind == "hf" and rest:
        return load_hub(rest, name=name)
    if kind == "python" and rest:
        made = plugins.call(rest, "data")
        if not isinstance(made, Pictures | Outputs | Stored) or isinstance(made, str | bytes | dict):
            raise InputError(f"{text} must return a data set with a length and items by index, or Outputs; it returns a {type(made).__name__}.")
        return made
    if not text:
        raise InputError("A place for data is empty: give a folder, a list, or arrays.")
    path = Path(text)
    if path.is_dir():
        if (path / "facts.json").exists():
            return Stored.open(path)
        inside = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        arrays = any(entry.suffix == ".npy" for entry in inside) and not any(entry.is_dir() or is_picture(entry.name) for entry in inside)
        return read_arrays(path) if arrays else folder(path, name=name, labelled=labelled)
    if not path.exists():
        near = nearest(path.name, [other.name for other in path.parent.iterdir()]) if path.parent.is_dir() else "."
        raise InputError(f"There is no file or folder {text!r}{near}")
    if path.suffix.lower() in ARRAYS:
        return read_arrays(path)
    if path.suffix.lower() in LISTS:
        return image_list(path, root=root, name=name)
    raise InputError(f"{text!r} is no data: give a folder, a list ({', '.join(LISTS)}), or arrays ({', '.join(ARRAYS)}).")


def open_several(texts: Sequence[str], *, root: str | Path | None = None) -> list[tuple[str, Data]]:
    """What several texts mean, in order; single picture files next to each other are one set, which one pass reads."""
    found: list[tuple[str, Data]] = []
    for single, run in itertools.groupby(texts, key=lambda text: is_picture(text) and Path(text).is_file()):
        places = list(run)
        if single:
            files = Files("pictures", Path(), tuple(places), torch.full((len(places),), -1))
            found.append((places[0] if len(places) == 1 else f"{len(places)} files", files))
        else:
            found += [(text, open_data(text, root=root)) for text in places]
    return found


def name_of(data: Data, row: int, text: str) -> str:
    """What to call a sample: its path, or its number in what `text` named."""
    if isinstance(data, Some):
        return name_of(data.dataset, data.rows[row], text)
    known = getattr(data, "name_of", None)
    return str(known(row)) if callable(known) else f"{text}[{row}]"


def check_fits(detector: Detector, classifier: Classifier) -> None:
    """Raises where a detector was fitted on another classifier, before that is run."""
    if detector.fingerprint is not None and detector.fingerprint != classifier.fingerprint():
        raise InputError(f"The detector was fitted on another model than {classifier.name}, whose outputs it cannot judge. Fit it again.")


def labelled_data(data: Data, classes: int, labels: Sequence[str] | None, class_map: Mapping[str, int] | None) -> Data:
    """Data whose labels are the model's classes; see `farfield.data.order.with_classes`. What has no names of classes is taken as it is."""
    return (
        with_classes(data, classes, labels, class_map)
        if isinstance(data, Files)
        else with_classes(data, classes, labels, class_map)
        if isinstance(data, Hub)
        else data
    )


def class_names(data: Data, classes: int) -> tuple[str, ...]:
    """The names of the classes from the folders of labelled data; none where there are no folders."""
    folders = getattr(data, "folders", ())
    named = dict(zip(data.labels.tolist(), folders, strict=True)) if folders and isinstance(data, Files | Hub) else {}
    return tuple(named.get(index, f"class {index}") for index in range(classes)) if named else ()


# --- arrays -------------------------------------------------------------------------------------------------------------------------------


def read_arrays(path: str | Path) -> Outputs:
    """A classifier's outputs from arrays; large ones are mapped, not read.

    A `.safetensors` or `.npz` file with any of `logits`, `features`, `labels`, `ids`, `head.weight`, `head.bias` and `head.groups`; a folder with
    such `.npy` files; or one `.npy` file whose name ends in one of these.

    Raises:
        InputError: when something cannot be read, has another name, or does not fit the rest.
    """
    path = Path(path)
    named = _by_name(path)
    unknown = [name for name in named if name not in COLUMNS]
    if unknown:
        raise InputError(f"{path} has an array {unknown[0]!r}{nearest(unknown[0], COLUMNS)} Farfield reads {', '.join(COLUMNS)}.")
    if not named:
        raise InputError(f"{path} has no arrays.")
    weight, bias, groups = (named.pop(f"head.{part}", None) for part in ("weight", "bias", "groups"))
    try:
        if weight is None and bias is not None:
            raise InputError("there is a head.bias, and no head.weight.")
        if weight is None and groups is not None:
            raise InputError("there are head.groups, and no head.weight.")
        head = None if weight is None else Head(weight, weight.new_zeros(weight.shape[:1]) if bias is None else bias, groups)
        return Outputs(head=head).having(**named)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _by_name(path: Path) -> dict[str, Tensor]:
    try:
        if path.is_dir():
            return {_column(file): _tensor(np.load(file, mmap_mode="c", allow_pickle=False), file) for file in sorted(path.glob("*.npy"))}
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return {name: _tensor(file[name], path) for name in file.files}
        return {_column(path): _tensor(np.load(path, mmap_mode="c", allow_pickle=False), path)}
    except InputError:
        raise
    except (OSError, ValueError, SafetensorError, EOFError, SyntaxError, KeyError) as error:
        raise InputError(f"The arrays of {path} cannot be read: {str(error).splitlines()[0] if str(error) else type(error).__name__}.") from error
    except Exception as error:  # zipfile and numpy raise kinds of their own for broken files
        raise InputError(f"The arrays of {path} cannot be read ({type(error).__name__}: {error}).") from error


def _column(file: Path) -> str:
    """Which column a file holds, by the end of its name."""
    for column in COLUMNS:
        if file.stem == column or file.stem.endswith((f"_{column}", f"-{column}", f".{column}")):
            return column
    raise InputError(f"{file} does not say what it holds: its name must end in one of {', '.join(COLUMNS)}.")


def _tensor(array: Any, path: Path) -> Tensor:
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise InputError(f"{path} holds {array.dtype}, which is no number Farfield can use.") from error


# --- scores -------------------------------------------------------------------------------------------------------------------------------


def read_scores(path: str | Path) -> np.ndarray:
    """Scores alone, one a sample, as `farfield score` and others write them.

    CSV with a column `score` (or of one column of numbers), JSON lines with `score`, `.npy`, or `.npz` and `.safetensors` with
    one array or one called `scores`. Rows without a score (pictures that could not be read) are left out.

    Raises:
        InputError: when the file cannot be read, or a score is no number.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in ARRAYS:
        try:
            if suffix == ".npy":
                arrays: dict[str, Any] = {"scores": np.load(path, allow_pickle=False)}
            elif suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    arrays = {name: file[name] for name in file.files}
            else:
                arrays = {name: tensor.double().numpy() for name, tensor in _by_name(path).items()}
        except InputError:
            raise
        except Exception as error:  # zipfile and numpy raise kinds of their own for broken files
            raise InputError(f"The scores of {path} cannot be read ({type(error).__name__}: {str(error)[:100]}).") from error
        name = "scores" if "scores" in arrays else next(iter(arrays), "")
        if name == "" or (len(arrays) > 1 and name != "scores"):
            raise InputError(f"{path} holds {', '.join(arrays) or 'nothing'}; call the scores `scores`.")
        values = np.asarray(arrays[name])
        if values.ndim != 1 or not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
            raise InputError(f"{path} must hold one number a sample; it holds {values.dtype} of shape {values.shape}.")
        if len(values) == 0:
            raise InputError(f"{path} has no scores.")
        return values.astype(np.float64)
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"The scores {path} cannot be read: {error}.") from error
    rows = _json_scores(path, text) if suffix in (".jsonl", ".ndjson", ".json") else _csv_scores(path, text)
    found = []
    for line, value in rows:
        if value is None or value == "":
            continue
        try:
            if isinstance(value, bool):
                raise TypeError
            found.append(float(value))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"Line {line} of {path} has the score {str(value)[:40]!r}, which is no number.") from error
    if not found:
        raise InputError(f"{path} has no scores.")
    return np.array(found)


def _json_scores(path: Path, text: str) -> list[tuple[int, Any]]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
            rows.append((number, value["score"] if isinstance(value, dict) else value))
        except (ValueError, KeyError, RecursionError) as error:
            raise InputError(f"Line {number} of {path} is no JSON with a `score`.") from error
    return rows


def _csv_scores(path: Path, text: str) -> list[tuple[int, str | None]]:
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(f"The scores {path} are no CSV: {error}.") from error
    if not rows:
        return []
    header = [field.strip() for field in rows[0][1]]
    if "score" in header:
        place = header.index("score")
        return [(line, row[place] if place < len(row) else None) for line, row in rows[1:]]
    if len(header) > 1:
        raise InputError(f"{path} has no column `score`; its header is {header[:6]}.")
    return [(line, row[0].strip()) for line, row in rows]


# --- some of the data ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Some:
    """Some items of a data set, with their names."""

    dataset: Pictures
    rows: tuple[int, ...]
    name: str
    parts: Mapping[str, slice] = field(default_factory=dict)
    part_group: str = "unit-test"

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.rows[index]]

    def name_of(self, index: int) -> str:
        """What the whole data set calls a sample."""
        return name_of(self.dataset, self.rows[index], self.name)

    def fingerprint(self) -> str:
        """A hash of the whole data set and of which rows these are."""
        return f"{contents(self.dataset)} {digest_of({'rows': torch.tensor(self.rows)})}"


def limited(data: Data, limit: int | None) -> Data:
    """At most `limit` samples, spread over the data: those with the lowest hash of their row, in order; the same each time."""
    if limit is None or len(data) <= limit:
        return data
    rows = hashed(torch.arange(len(data)), 0).argsort()[:limit].sort().values
    if isinstance(data, Stored):
        data = data.load()
    if isinstance(data, Outputs):
        return data[rows]
    if isinstance(data, Files | Hub):
        return data.only(rows.tolist())
    if isinstance(data, Images):
        return data.only(rows)
    parts = kept_parts(getattr(data, "parts", {}), rows)
    return Some(data, tuple(rows.tolist()), str(getattr(data, "name", type(data).__name__)), parts, getattr(data, "part_group", "unit-test"))


def limited_suite(suite: Suite, limit: int | None) -> Suite:
    """A suite of whose every set at most `limit` samples are read."""
    if limit is None:
        return suite

    def few(load: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: limited(load(), limit)

    splits = {name: few(load) for name, load in suite.splits.items()}
    ood, validation = ([replace(entry, load=few(entry.load)) for entry in sets] for sets in (suite.ood, suite.validation))
    return replace(suite, splits=splits, ood=tuple(ood), validation=tuple(validation), drawn=None)


def unlabelled(data: Data) -> Data:
    """OOD data, whose own classes are not the model's: every label is -1."""
    if isinstance(data, Files | Hub):
        return replace(data, labels=torch.full((len(data),), -1), folders=())
    return data
