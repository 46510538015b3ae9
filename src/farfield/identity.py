"""What an object is, as a hash: its data, its settings and its code, but not where it is in memory.

A classifier's fingerprint and a store's key are made of these: two objects that compute differently should never share one.
"""

from __future__ import annotations

import functools
import hashlib
import re
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

_DEEP = 40
_OF_TORCH = frozenset(vars(nn.Module())) - {"_forward_hooks", "_forward_pre_hooks"}
_OF_TORCH = _OF_TORCH | {"training", "_forward_hooks_with_kwargs", "_forward_pre_hooks_with_kwargs", "_is_hf_initialized"}


def plain(value: object) -> str:
    """What an object says of itself, without where in memory it is.

    >>> plain(object())
    '<object object>'
    """
    return re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(value))


def hash_of(*values: Any) -> str:
    """A hash of values of any kind.

    Tensors, arrays and pictures count with all they hold, containers with what is in them, functions with their code, defaults and closures,
    modules with their parameters, settings, hooks and code, other objects with their attributes. Of a module's private attributes those count
    that are numbers, texts or hooks: others are often caches, which a forward pass fills.

    >>> hash_of([1, 2]) == hash_of([1, 2]), hash_of([1, 2]) == hash_of([12]), hash_of(lambda x: x + 1) == hash_of(lambda x: x + 2)
    (True, False, False)
    """
    memo: dict[int, tuple[bytes, Any]] = {}
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(_digest(value, memo, 0))
    return digest.hexdigest()


def _digest(value: Any, memo: dict[int, tuple[bytes, Any]], depth: int) -> bytes:
    """One value's hash; `memo` has those of the objects met before, and keeps the objects, so that no number comes to mean another."""
    kind = type(value)
    if value is None or kind in (bool, int, float, str, bytes, complex):
        return hashlib.blake2b(f"{kind.__name__} {value!r}".encode("utf-8", "surrogatepass"), digest_size=16).digest()
    if id(value) in memo:
        return memo[id(value)][0]
    memo[id(value)] = (b"in a circle", value)
    digest = hashlib.blake2b(f"{kind.__module__}.{kind.__qualname__}".encode(), digest_size=16)
    for part in _parts(digest, value) if depth < _DEEP else [plain(value)]:
        digest.update(_digest(part, memo, depth + 1))
    memo[id(value)] = (digest.digest(), value)
    return digest.digest()


def _parts(digest: Any, value: Any) -> list[Any]:
    """What a value is made of; feeds what has no parts itself."""
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)} {value.dtype} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return []
    if isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.shape} {value.dtype} ".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
        return []
    if isinstance(value, Image.Image):
        digest.update(f"{value.mode} {value.size} ".encode())
        digest.update(value.tobytes())
        return []
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, set | frozenset):
        return sorted(plain(part) for part in value)
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, nn.Module):
        return _of_module(value)
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, types.MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return [value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells]
    if isinstance(value, types.CodeType):
        return [value.co_code, list(value.co_consts), list(value.co_names)]
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType) or not hasattr(value, "__dict__"):
        digest.update(plain(value).encode("utf-8", "surrogatepass"))
        return []
    return [getattr(type(value), "__call__", None), dict(vars(value))]  # noqa: B004 (its code is wanted)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a cell that is not filled yet
        return None


def _of_module(module: nn.Module) -> list[Any]:
    """A module's code, settings, hooks, own tensors and children."""
    known = vars(module)
    public = {name: part for name, part in known.items() if not name.startswith("_") and name not in _OF_TORCH}
    private = {name: part for name, part in known.items() if name.startswith("_") and name not in _OF_TORCH and type(part) in (bool, int, float, str)}
    hooks = [list(known[name].values()) for name in ("_forward_hooks", "_forward_pre_hooks")]
    tensors = [dict(module.named_parameters(recurse=False)), dict(module.named_buffers(recurse=False))]
    return [type(module).forward, module.extra_repr(), public, private, hooks, tensors, dict(module.named_children())]
