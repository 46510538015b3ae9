"""KNN's search beside faiss-cpu's exhaustive one, in one run: `python benchmarks/knn.py`. Needs `pip install faiss-cpu`.

200,000 rows of 2,048 features, 2,000 queries, k = 50, two threads each. Prints the median of three searches of each, the ratio, and the largest
relative difference of the distances and products from float64; for two kinds of data: directions at random, and clusters in few dimensions.

`python benchmarks/knn.py --large [FOLDER]` fits KNN with `bits=16` on 1,280,000 x 2,048 features that are made as they are read, saves it, loads
it and scores 200 samples, each in a process of its own. It writes twice 5.2 GB under FOLDER and deletes them. For each it prints the peak of the
memory of the process's own, and the peak with the pages of files that the system had mapped for it, which it may take back at any time.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import farfield as ff
from farfield.detectors import KNN, search

ROWS, QUERIES, D, K, THREADS, ROUNDS = 200_000, 2_000, 2_048, 50, 2, 3
LARGE, CHUNK, FEW = 1_280_000, 4_000, 200


def beside() -> None:
    import faiss

    torch.set_num_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    search._fast("cpu")  # its trial is made once in a process
    print(f"faiss {faiss.__version__}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, products in {search._fast('cpu')}")
    for made, name, nearest in ((directions, "L2", True), (clusters, "IP", False)):
        bank, z = made(ROWS, 0), made(QUERIES, 1)
        index = faiss.IndexFlatL2(D) if nearest else faiss.IndexFlatIP(D)
        index.add(bank.numpy())
        times: dict[str, list[float]] = {"farfield": [], "faiss": []}
        for _ in range(ROUNDS):
            ours = timed(times["farfield"], lambda: search.largest(z, bank, K, nearest=nearest, only_last=nearest))  # noqa: B023
            theirs = timed(times["faiss"], lambda: torch.from_numpy(index.search(z.numpy(), K)[0]))  # noqa: B023
        last = theirs[:100, -1].double()
        exact = search.exact(z[:100], bank, K, nearest=nearest).amin(1)
        off = [((x - exact).abs() / exact.abs()).max() for x in (ours[:100].amin(1), -last.clamp_min(0).sqrt() if nearest else last)]
        median = {who: statistics.median(seconds) for who, seconds in times.items()}
        print(
            f"{made.__name__}, {name}: farfield {median['farfield']:.1f} s, faiss {median['faiss']:.1f} s, ratio {median['faiss'] / median['farfield']:.2f};"
            f" the k-th from that in float64, relative: farfield {off[0]:.0e}, faiss {off[1]:.0e}",
            flush=True,
        )


def directions(n: int, seed: int) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(n, D, generator=torch.Generator().manual_seed(seed)))


def clusters(n: int, seed: int) -> Tensor:
    """A thousand classes, each spread over 64 directions, all about a common centre, as `KNN` keeps them."""
    fixed, random = torch.Generator().manual_seed(2), torch.Generator().manual_seed(seed)
    means, spread = torch.randn(1000, D, generator=fixed), torch.randn(64, D, generator=fixed)
    rows = means[torch.randint(1000, (n,), generator=random)] + torch.randn(n, 64, generator=random) @ spread / 8
    return torch.nn.functional.normalize(rows + 0.1 * torch.randn(n, D, generator=random))


def timed(times: list[float], call: Callable[[], Tensor]) -> Tensor:
    started = time.perf_counter()
    result = call()
    times.append(time.perf_counter() - started)
    return result


class Made:
    """Features that are made as they are read, the same each time."""

    samples = LARGE

    def __iter__(self) -> Iterator[ff.Outputs]:
        rows = some(0, CHUNK)
        for chunk in range(LARGE // CHUNK):
            yield ff.Outputs(features=rows.features.roll(chunk, 1))  # turned, they are other rows, and sooner made


def some(seed: int, n: int) -> ff.Outputs:
    return ff.Outputs(features=torch.randn(n, D, generator=torch.Generator().manual_seed(seed)).abs())


def large(folder: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        for step in ("fit", "score"):
            subprocess.run([sys.executable, __file__, "--step", step, inside], check=True)


def step(name: str, folder: Path) -> None:
    tempfile.tempdir, path = str(folder), folder / "knn.safetensors"
    torch.set_num_threads(THREADS)
    if name == "fit":
        detector = watched("fit", lambda: KNN.fit(Made(), k=K, bits=16))
        watched("save", lambda: detector.save(path))
    else:
        loaded = watched("load", lambda: ff.load(path))
        queries = some(1, FEW)
        scores = watched(f"score {FEW}", lambda: loaded(queries))
        print(f"scores from {scores.min():.4f} to {scores.max():.4f}")


def watched(what: str, call: Callable[[], object]) -> Any:
    """Runs it while a thread reads what memory the process has, every 20 ms (Linux)."""
    peak, ended = {"RssAnon": 0, "VmRSS": 0}, threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            for kind in peak:
                peak[kind] = max(peak[kind], int(lines[kind].split()[0]))

    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    try:
        result = call()
    finally:
        ended.set()
        thread.join()
    seconds = time.perf_counter() - started
    print(f"{what}: {seconds:.0f} s, peak {peak['RssAnon'] / 2**20:.2f} GB of its own, {peak['VmRSS'] / 2**20:.2f} GB with mapped files", flush=True)
    return result


if __name__ == "__main__":
    if "--step" in sys.argv:
        step(sys.argv[2], Path(sys.argv[3]))
    elif "--large" in sys.argv:
        large(sys.argv[2] if len(sys.argv) > 2 else None)
    else:
        beside()
