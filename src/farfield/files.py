"""Writing files so that a reader finds the old one or the new one, whole."""

from __future__ import annotations

import os
import threading
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
        write(partial)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
