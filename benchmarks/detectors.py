"""What every detector costs, beside pytorch-ood 0.4.0 where that has the method in a sound form: `python benchmarks/detectors.py --size 100`.

Needs `pip install pytorch-ood==0.4.0`. `--size 100` fits on 50,000 x 512 and scores 10,000 under 100 classes, `--size 1000` fits on 20,000 x 2,048
and scores 2,000 under 1,000. Prints a Markdown table.

Every fit and scoring is in a fresh process, forked with the data in memory, ours and theirs in turn: medians of `--rounds`. Peaks are what the process
grew by, over fit and over scoring, the fitted state included. Theirs is given a time (`--limit`): it scores as many samples as fit in it, in batches
where its temporaries would not fit in memory, and where it takes more than a third of it there is one round. Both have one thread (`--threads`);
its times are the processor's, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from agreement import PEERS
from torch import Tensor

import farfield as ff
from farfield.detectors import CATALOGUE, SHAPERS, parse

SIZES = {"100": (50_000, 10_000, 100, 512), "1000": (20_000, 2_000, 1_000, 2_048)}
AT_ONCE = {"dice+energy": 2**27}  # elements of theirs that a batch may make: n x c x d
Fit = Callable[[ff.Outputs], Callable[[ff.Outputs], Tensor]]


def data(n: int, m: int, c: int, d: int) -> tuple[ff.Outputs, ff.Outputs]:
    """ReLU features about class means and the head that goes with them: some nine in ten are classified rightly."""
    random = torch.Generator().manual_seed(0)
    means = torch.rand(c, d, generator=random)
    weight = 0.35 * (means - means.mean(0))
    head = ff.Head(weight, -weight @ means.mean(0))

    def outputs(rows: int) -> ff.Outputs:
        labels = torch.randint(c, (rows,), generator=random)
        labels[:c] = torch.arange(c)
        features = means[labels].add_(torch.randn(rows, d, generator=random), alpha=1.2 * (d / 512) ** 0.5).relu_()
        return ff.Outputs(head(features), features, labels, head)

    return outputs(n), outputs(m)


def memory(what: str) -> float:
    """`VmRSS` or its peak `VmHWM`, in MB."""
    return next(int(line.split()[1]) / 1024 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Seconds, MB the process grew by at most, and what came out."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    before, started = memory("VmRSS"), clock()
    made = call()
    return clock() - started, memory("VmHWM") - before, made


def work(pipe: Connection, fit: Fit, train: ff.Outputs, test: ff.Outputs, limit: float, batch: int) -> None:
    """In the forked process: a fit, then a scoring; both are told as they are known."""
    warnings.simplefilter("ignore")
    with torch.no_grad():
        seconds, peak, scorer = timed(lambda: fit(train))
        pipe.send(("fit", seconds, peak))
        few = min(batch, 32)
        scorer(test[:few])  # the first call of anything is slow
        estimate = timed(lambda: scorer(test[:few]))[0] / few
        rows = max(few, min(len(test), int(limit / 3 / estimate)))
        times, peaks = [], []
        while not times or (sum(times) < 0.3 and len(times) < 15):
            seconds, peak, _ = timed(lambda: torch.cat([scorer(test[at : min(at + batch, rows)]) for at in range(0, rows, batch)]))
            times.append(seconds / rows * 1e6)
            peaks.append(peak)
        pipe.send(("score", statistics.median(times), max(peaks), rows))


def once(fit: Fit, train: ff.Outputs, test: ff.Outputs, limit: float, batch: int) -> dict[str, tuple[float, ...]]:
    """What the process told before the limit."""
    context = multiprocessing.get_context("fork")
    ours, its = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(its, fit, train, test, limit, batch))
    process.start()
    its.close()
    told: dict[str, tuple[float, ...]] = {}
    end = time.monotonic() + limit
    while len(told) < 2 and ours.poll(max(0.0, end - time.monotonic())):
        try:
            name, *values = ours.recv()
        except EOFError:
            break
        told[name] = tuple(values)
    process.kill()
    process.join()
    return told


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="100")
    parser.add_argument("--only", nargs="*", default=[*CATALOGUE, *(f"{name}+energy" for name in SHAPERS)])
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--ours", action="store_true", help="ours alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    n, m, c, d = SIZES[arguments.size]
    train, test = data(n, m, c, d)
    right = float((test.predictions() == test.labels).float().mean())
    print(f"{n:,} fitted, {m:,} scored, {c:,} classes, {d:,} features; {right:.0%} classified rightly; {arguments.threads} thread(s)\n")
    print("| method | fit s | theirs | ratio | score us | theirs | ratio | fit peak MB | theirs | score peak MB | theirs |")
    print("|" + "---|" * 11)
    for name in arguments.only:
        peer = None if arguments.ours else PEERS.get(name)
        batch = AT_ONCE.get(name, 2**60) // (c * d)
        runs: tuple[list[dict[str, tuple[float, ...]]], list[dict[str, tuple[float, ...]]]] = [], []
        for _ in range(arguments.rounds):
            if not runs[0] or costs(runs[0][0], 600.0) < 20:
                runs[0].append(once(parse(name), train, test, 600.0, m))
            if peer and (not runs[1] or costs(runs[1][0], arguments.limit) < arguments.limit / 3):
                runs[1].append(once(peer, train, test, arguments.limit, max(1, batch)))
        print(row(name, runs, arguments.limit, m), flush=True)


def costs(told: dict[str, tuple[float, ...]], limit: float) -> float:
    return told["fit"][0] + told["score"][0] / 1e6 * told["score"][2] if "score" in told else limit


def row(name: str, runs: tuple[list[dict[str, tuple[float, ...]]], list[dict[str, tuple[float, ...]]]], limit: float, m: int) -> str:
    def middle(which: int, stage: str, value: int) -> float | None:
        return statistics.median(told[stage][value] for told in runs[which]) if runs[which] and all(stage in told for told in runs[which]) else None

    cells = [name]
    for stage, digits in (("fit", 3), ("score", 2)):
        a, b = middle(0, stage, 0), middle(1, stage, 0)
        over = bool(runs[1]) and b is None and stage == "fit"
        rows = middle(1, "score", 2) if stage == "score" else None
        some = f" ({rows:.0f} samples)" if rows is not None and rows < m else ""
        # A fit beyond the limit gives a ratio that is at least so much.
        ratio = f"{b / a:.2f}" if a and b is not None else f"> {limit / a:.0f}" if a and over else ""
        cells += ["" if a is None else f"{a:.{digits}f}", f"over {limit:.0f}" if over else "" if b is None else f"{b:.{digits}f}{some}", ratio]
    for stage in ("fit", "score"):
        cells += ["" if (peak := middle(which, stage, 1)) is None else f"{peak:.0f}" for which in (0, 1)]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
