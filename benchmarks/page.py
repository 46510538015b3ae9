"""How large the page of a benchmark is, how long it takes to make and to open: `python benchmarks/page.py [FOLDER]`.

Without a folder it runs `farfield bench` in one of its own first. It opens the page in headless chromium, which must be installed (Debian:
`chromium chromium-driver`), five times: until the tables and the plots in sight are drawn. `--imagenet` makes the scores of a large
run instead, at random: 50,000 test images of 1,000 classes, 30 detectors, 9 OOD sets of 10,000, one classifier.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from farfield import benchmark, report
from farfield.benchmark.results import Results
from farfield.benchmark.rows import rank, rows_of, scored
from farfield.benchmark.run import scores_path
from farfield.metrics import threshold_draws

QUIET = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
)


def imagenet(folder: Path) -> None:
    rng, results, kept = np.random.default_rng(0), Results(), {}
    groups = {f"set-{k}": "near" if k < 4 else "far" for k in range(9)}
    results.suites = [{"name": "made up", "note": "Random numbers.", "ood": groups, "contents": {}}]
    names = [f"class {c}" for c in range(1000)]
    results.classifiers = [
        {
            "name": "none",
            "suite": "made up",
            "fingerprint": None,
            "id_accuracy": 0.76,
            "id_accuracy_interval": (0.75, 0.77),
            "classes": 1000,
            "class_names": names,
        }
    ]
    placed = {}
    for d in range(30):
        scores = {"test": rng.normal(1.5, 1, 50_000)} | {name: rng.normal(d / 60, 1, 10_000) for name in groups}
        scores = {name: values.astype(np.float32).astype(np.float64) for name, values in scores.items()}
        kept |= {f"detector-{d}/{name}": torch.tensor(values, dtype=torch.float32) for name, values in scores.items()}
        drawn = threshold_draws(scores["test"])
        placed[f"detector-{d}"] = {n: scored(scores["test"], drawn, torch.tensor(scores[n]), group, None, {}) for n, group in groups.items()}
        results.rows += rows_of("none", f"detector-{d}", "made up", scores["test"], placed[f"detector-{d}"])
    started = time.perf_counter()
    rank(results.rows, placed)
    print(f"ranks: {time.perf_counter() - started:.1f} s")
    kept["labels/test"] = torch.arange(50_000, dtype=torch.int32) % 1000
    path = scores_path(folder, "made up", "none")
    path.parent.mkdir(parents=True)
    save_file(kept, path)
    report.write(results.plain(), folder)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1] != "--imagenet" else Path(tempfile.mkdtemp())
    if "--imagenet" in sys.argv:
        imagenet(folder)
    elif not (folder / "results.json").exists():
        subprocess.run([sys.executable, "-m", "farfield", "bench", "--out", str(folder)], check=True, capture_output=True)
    results, _ = benchmark.read(folder)
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        path = report.write_page(results, folder)
        seconds.append(time.perf_counter() - started)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, made in {statistics.median(seconds):.2f} s (median of 3)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*QUIET.split(), "--window-size=1280,900"):
        options.add_argument(argument)
    opened = []
    with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:
        for _ in range(5):
            browser.get("about:blank")
            started = time.perf_counter()
            browser.get(path.resolve().as_uri())
            while not browser.execute_script("return document.documentElement.dataset.ready === 'yes'"):
                time.sleep(0.01)
            opened.append(time.perf_counter() - started)
        while browser.execute_script("return document.querySelectorAll('.frame').length > document.querySelectorAll('.frame svg').length"):
            time.sleep(0.01)
        print(
            f"opened in {statistics.median(opened):.2f} s (median of 5: {', '.join(f'{s:.2f}' for s in opened)}); all plots {time.perf_counter() - started:.2f} s"
        )


if __name__ == "__main__":
    main()
