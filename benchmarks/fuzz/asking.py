"""Asking the process of `forking.py`, and counting what came of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = ("tried", "accepted", "refused", "tracebacks", "faults", "timeouts", "other")
HEAD = f"| input | {' | '.join(COLUMNS)} |\n| --- |{' ---: |' * len(COLUMNS)}"


@dataclass
class Tally:
    """What came of the inputs of one kind."""

    kind: str
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def note(self, verdict: str, how: str) -> bool:
        """Counts one more input; whether the promise was kept."""
        self.counts.update(["tried", verdict])
        kept = verdict in ("accepted", "refused")
        self.violations += [] if kept else [f"{self.kind}, {verdict}: {how}"]
        return kept

    def __str__(self) -> str:
        return f"| {self.kind} | {' | '.join(str(self.counts[column]) for column in COLUMNS)} |"


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Callable[..., Any]]:
    """The process, without a network or an accelerator, with all that it may keep in one folder; to be called with a job's name and arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    places = ("TMPDIR", "HF_HOME", "TORCH_HOME", "FARFIELD_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1"}
    settings |= dict.fromkeys(places, str(folder)) | dict.fromkeys(proxies, "http://127.0.0.1:9")
    command = [sys.executable, "-P", str(Path(__file__).with_name("forking.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | settings, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask(what: str, **job: Any) -> Any:
            print(json.dumps({"what": what, **job}), file=process.stdin, flush=True)
            answer = process.stdout.readline()
            if not answer:
                raise RuntimeError(f"the process that has the library died with status {process.wait()}")
            return json.loads(answer)

        yield ask
