"""Writing files so that a reader finds the old one or the new one, whole."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path


def put(path: str | Path, write: Callable[[Path], object]) -> None:
    """Lets `write` fill a file of this thread's own beside `path`, makes it durable, and moves it into place.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     put(Path(folder) / "x", lambda path: path.write_text("whole"))
    ...     [path.name for path in Path(folder).iterdir()]
    ['x']
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    try:
        partial.touch()
        mode = partial.stat().st_mode  # as the umask has it, which not every writer heeds
        write(partial)
        partial.chmod(mode)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


STALE = 3600.0  # seconds after which a half-written file is nobody's


def left_over(folder: Path, age: float = 0.0) -> list[Path]:
    """Half-written files in a folder, ours and those of safetensors, untouched for `age` seconds."""
    now, found = time.time(), []
    for path in (*folder.glob("*.tmp"), *folder.glob(".tmp*")):
        try:
            if now - path.stat().st_mtime >= age:
                found.append(path)
        except OSError:
            continue  # just moved into place, by its writer
    return sorted(set(found))


def sweep(folder: Path) -> None:
    """Removes what killed runs left in a folder, if no run can still be writing it."""
    for path in left_over(folder, STALE):
        path.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Where what can be made again is kept: `$FARFIELD_CACHE`, else `~/.cache/farfield`."""
    return Path(os.environ.get("FARFIELD_CACHE") or Path.home() / ".cache" / "farfield")
