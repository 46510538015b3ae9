"""Weights from files: safetensors, the npz of Google's models, and checkpoints of `torch.save`, of which tensors alone are read."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from farfield.errors import InputError
from farfield.models.zoo.names import translated

PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin", ".th", ".tar")
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # what checkpoints call the model; an average comes before what it averages
PREFIXES = ("model.", "module.")  # of training checkpoints, and of DataParallel
# What timm's and T2T-ViT's training loops put beside the tensors: a bag of the command line's options, which runs nothing when it is made.
HARMLESS: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [argparse.Namespace]


def kind_of(path: Path) -> str:
    """What a file is by its first bytes: `npz`, `pickle` (an archive of `torch.save`, or the older form), or `safetensors`, which is all else."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(path) as archive:
                return "npz" if all(name.endswith(".npy") for name in archive.namelist()) else "pickle"
    except (OSError, zipfile.BadZipFile):
        return "npz" if path.suffix == ".npz" else "pickle" if path.suffix in PICKLES else "safetensors"
    # safetensors begin with eight bytes of length, which may be any, and a brace
    return "pickle" if head.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")) and head[8:] != b"{" else "safetensors"


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a file; of a training checkpoint, those of the model, and of its running average where it has one.

    Raises:
        InputError: when the file is missing or broken, or has in it what is no tensor and would have to be run to be read.
    """
    path = Path(path)
    readers = {"npz": _arrays, "pickle": _checkpoint, "safetensors": _safetensors}
    tensors = readers[kind_of(path)](path)
    if any(key.startswith("optimizer.") for key in tensors):
        tensors = {key: value for key, value in tensors.items() if key.startswith("model.")}
    for prefix in PREFIXES:
        if tensors and all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return translated(tensors)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (safe_open is not a mapping)
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _arrays(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {key: torch.from_numpy(np.ascontiguousarray(file[key])) for key in file.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _unreadable(path, error) from error


def _checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as raw, torch.serialization.safe_globals(HARMLESS), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # what it cannot read, it refuses
            held: Any = torch.load(raw, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise refuse_pickle(path, error) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    while isinstance(held, Mapping) and (wrapper := next((key for key in WRAPPERS if isinstance(held.get(key), Mapping)), None)):
        held = held[wrapper]
    if not isinstance(held, Mapping) or not held or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in held.items()):
        found = ", ".join(map(str, held))[:120] if isinstance(held, Mapping) else f"a {type(held).__name__}"
        raise InputError(f"{path} holds no weights by name, nor any under {', '.join(WRAPPERS)}; it holds {found or 'nothing'}. Save a state_dict.")
    return dict(held)


def _unreadable(path: Path, error: Exception) -> InputError:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(".")
    return InputError(f"The weights {path} cannot be read: {first}. Give a safetensors file, a checkpoint of tensors, or Google's npz.")


def refuse_pickle(path: Path, error: Exception) -> InputError:
    """Why a pickle is not read, and how to make something that is."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found is None and "Unsupported" not in str(error):
        return _unreadable(path, error)
    return InputError(
        f"{path} is a pickle with more in it than tensors ({found[1] if found else 'an operation that tensors do not need'}), which can run any code when it is "
        "read, so Farfield does not read it. Convert it once, where you trust it: python -c "
        f"\"import torch; from safetensors.torch import save_file; w = torch.load('{path}', map_location='cpu', weights_only=False); "
        f"save_file({{k: v.clone().contiguous() for k, v in w.get('state_dict', w).items()}}, '{path}.safetensors')\", "
        "and give that as the weights."
    )


def fill(module: nn.Module, weights: dict[str, Tensor], name: str) -> None:
    """Loads weights that must fit in every name and shape.

    Raises:
        InputError: where they do not.
    """
    own = module.state_dict()
    missing, unknown = sorted(own.keys() - weights.keys()), sorted(weights.keys() - own.keys())
    wrong = [key for key in own.keys() & weights.keys() if own[key].shape != weights[key].shape]
    if missing or unknown or wrong:
        told = [("lack", missing), ("have the unknown", unknown), ("have in another shape", sorted(wrong))]
        said = "; ".join(f"they {what} {len(keys)} tensor{'s' * (len(keys) > 1)}, first `{keys[0]}`" for what, keys in told if keys)
        raise InputError(f"The weights do not fit {name}: {said}. They are of another architecture or number of classes.")
    module.load_state_dict(weights)


def last_layer(module: nn.Module) -> str:
    """The name of the last linear layer or convolution, which is the head of torchvision's classifiers and of those in the zoo."""
    names: list[str] = [key for key, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    return names[-1]


def skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """What is built, without memory for its weights where that can be: its names and shapes alone."""
    try:
        with torch.device("meta"):
            return build()
    except NotImplementedError:  # torchvision's RegNets compute their widths with tensors
        return build()


def classes_of(weights: Mapping[str, Tensor], keys: Sequence[str]) -> int | None:
    """How many classes weights have, by the tensor of the head: one of `keys`, or the last matrix."""
    for key in keys:
        if f"{key}.weight" in weights:
            return len(weights[f"{key}.weight"])
    matrices = [value for key, value in weights.items() if value.ndim == 2 and key.endswith("weight")]
    return len(matrices[-1]) if matrices else None
