"""Peak memory of fitting on 500,000 x 2,048 float16 features streamed from disk: `python benchmarks/memory.py`.

Each fit runs in a process of its own; what is printed is its peak above the peak of the interpreter with Farfield imported.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import farfield as ff
from farfield.detectors import Mahalanobis, React

N, D, C, ROWS = 500_000, 2_048, 1_000, 10_000


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        write(Path(folder))
        for name in ("nothing", "mahalanobis", "react"):
            command = [sys.executable, __file__, "--fit", name, folder]
            print(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip(), flush=True)


def write(folder: Path) -> None:
    store = stored(folder)
    store.folder.mkdir(parents=True)
    random = torch.Generator().manual_seed(0)
    head = ff.Head(torch.randn(C, D, generator=random), torch.zeros(C))
    for shard in range(store.shards):
        features = torch.randn(ROWS, D, generator=random).half()
        store.write(shard, ff.Outputs(features=features, labels=torch.randint(C, (ROWS,), generator=random), head=head, ids=torch.arange(ROWS)))


def stored(folder: Path) -> ff.Stored:
    return ff.Stored(folder / "store", N, ROWS, "random")


def fit(name: str, folder: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    if name == "mahalanobis":
        Mahalanobis.fit(stored(folder))
    if name == "react":
        React.fit(stored(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{name}: {(peak - before) / 2**20:.2f} GB above the interpreter's {before / 2**20:.2f} GB, {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    if "--fit" in sys.argv:
        fit(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
