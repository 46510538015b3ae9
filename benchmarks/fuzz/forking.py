"""The process that has the library loaded and forks a child for each picture, folder and command line: a hang or a crash ends only a child.

Reads a job a line from stdin and answers a line on stdout, both JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 (what is loaded here is so once, for all children)
import numpy as np
import timm  # noqa: F401
import torchvision.models  # noqa: F401
from torch import nn

from farfield import Classifier, benchmark, cli, collect, compare, detectors, inputs, metrics, report  # noqa: F401
from farfield.data.files import folder as pictures_of
from farfield.data.pictures import Unreadable, read_picture
from farfield.data.transforms import Preprocess

PICTURE, LINE, FOLDER = (10.0, 2 << 30), (60.0, 6 << 30), (900.0, 6 << 30)  # seconds, and bytes of memory that a child may add


def in_child(work: Callable[[], Any], seconds: float, memory: int) -> tuple[Any, int | None]:
    """What some work returns in a child (`None` if it raises), and the child's status, negative for a signal, `None` if it was ended for its time."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        status = 70
        try:
            os.setsid()
            mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
            with os.fdopen(writing, "w") as answer:
                json.dump(work(), answer)
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    os.close(writing)
    told, end, part = b"", time.monotonic() + seconds, b"more"
    while part and select.select([reading], [], [], max(end - time.monotonic(), 0))[0]:
        part = os.read(reading, 1 << 16)
        told += part
    os.close(reading)
    if not part:
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started as well
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (json.loads(told) if told and not part else None), (None if part else status)


def redirect(*files: int) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)


def read_one(path: str) -> tuple[str, str]:
    """What comes of reading one picture."""
    redirect(*[os.open(os.devnull, os.O_RDWR)] * 3)  # libtiff writes there by itself
    try:
        image = read_picture(path)
        pixels = np.asarray(image)
        fine = image.mode == "RGB" and pixels.dtype == np.uint8 and pixels.shape == (image.height, image.width, 3) and pixels.size
        return ("accepted", "") if fine else ("other", f"a picture of mode {image.mode}, {pixels.dtype}, {pixels.shape}")
    except Unreadable as error:
        text = str(error)
        fine = text.strip() and len(text.splitlines()) == 1 and not text.startswith("MemoryError")
        return "refused" if fine else "other", repr(text)
    except BaseException as error:
        return "tracebacks", f"{type(error).__name__}: {error}"


def read(paths: list[str]) -> list[tuple[str, str]]:
    """Reads pictures, many in a child; those of a child that dies or takes too long once more in two halves, down to the one picture."""
    if len(paths) > 50:
        return read(paths[:50]) + read(paths[50:])
    told, status = in_child(lambda: [read_one(path) for path in paths], *PICTURE)
    if told or not paths:
        return told or []
    half = len(paths) // 2
    return read(paths[:half]) + read(paths[half:]) if half else [("timeouts", "") if status is None else ("other", f"died with status {status}")]


def collect_all(folder: str, out: str) -> dict[str, Any]:
    """`collect` over a folder of pictures with a small net: the pictures behind the outputs, and the failures."""

    def work() -> dict[str, Any]:
        redirect(*[os.open(os.devnull, os.O_RDWR)] * 3)
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
        classifier = Classifier.wrap(net, transform=Preprocess(resize=32, crop=32), input_size=(3, 32, 32))
        data = pictures_of(folder)
        try:
            stored = collect(classifier, data, out=out, workers=0)
            rows = stored.load().ids.tolist()
        except Exception as error:
            return {"died": f"{type(error).__name__}: {error}"}
        return {"read": [data.paths[row] for row in rows], "failures": [[failure.name, failure.reason] for failure in stored.failures()]}

    told, status = in_child(work, *FOLDER)
    return told or {"died": f"status {status}"}


def line(argv: list[str], cwd: str) -> dict[str, Any]:
    """One command line in a folder: its status, stdout and stderr."""
    if any("hf:" in argument for argument in argv):
        import datasets  # noqa: F401 (slow, so only where it is wanted)
        import transformers  # noqa: F401

    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(b"y\n" * 9)
        files[0].seek(0)

        def work() -> None:
            os.chdir(cwd)
            redirect(*(file.fileno() for file in files))
            whole = benchmark.run

            def run(jobs: Any, *rest: Any, **options: Any) -> Any:
                if any(suite.name.startswith("glyphs") for suite, _ in jobs):  # accepted; a whole embedded suite would take too long
                    os._exit(0)
                return whole(jobs, *rest, **options)

            benchmark.run = run
            sys.argv = ["farfield", *argv]
            cli.main()

        _, status = in_child(work, *LINE)
        for file in files:
            file.seek(0)
        out, err = (file.read().decode("utf-8", "replace") for file in files[1:])
        return {"status": status, "out": out, "err": err}


if __name__ == "__main__":
    jobs, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for text in jobs:
        job = json.loads(text)
        print(json.dumps({"read": read, "collect": collect_all, "line": line}[job.pop("what")](**job)), file=answers, flush=True)
