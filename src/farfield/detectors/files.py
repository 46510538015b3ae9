"""Reading a detector from its file: safetensors for the tensors, JSON in the header for the rest, and no code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from farfield.detectors.base import FORMAT, Detector
from farfield.errors import InputError


def load(path: str | Path, known: Iterable[type[nn.Module]]) -> Detector:
    """The detector in a file, of one of the classes `known`.

    Raises:
        InputError: when the file is missing, is not a detector's, or names another class.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
        header = json.loads(metadata["farfield"])
        version, described, fingerprint = header["format"], header["detector"], header["fingerprint"]
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read as a detector: {error}.") from error
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path} is a safetensors file, but not of a Farfield detector.") from error
    if version != FORMAT:
        raise InputError(
            f"{path} has format {version}; this Farfield reads format {FORMAT}. Fit the detector again, or use the version that wrote it."
        )
    try:
        detector = _build(described, tensors, {cls.__name__: cls for cls in known}, str(path))
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise InputError(f"{path} is of a detector, but broken: its header and its tensors do not make one. Fit the detector again.") from error
    if not isinstance(detector, Detector):
        raise InputError(f"{path} holds a {type(detector).__name__}, which is not a detector.")
    detector.fingerprint = fingerprint  # one for the detector and its parts
    return detector


def _build(described: Mapping[str, Any], tensors: Mapping[str, Tensor], known: Mapping[str, type[nn.Module]], path: str) -> nn.Module:
    """One module from its description and its tensors, the parts of it first."""
    name = described["class"]
    if name not in known:
        raise InputError(
            f"{path} holds a detector of class {name!r}, which Farfield does not know; give it as `load(path, classes=[{name}])`, or as --class module:{name}."
        )
    parts = {
        part: _build(inner, {key.removeprefix(f"{part}."): value for key, value in tensors.items() if key.startswith(f"{part}.")}, known, path)
        for part, inner in described.get("parts", {}).items()
    }
    own = {key: value for key, value in tensors.items() if "." not in key}
    return known[name](**own, **described["settings"], **parts)
