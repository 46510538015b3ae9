"""Do the tests notice a changed line? `python benchmarks/mutants.py [--number N] [--seed S]`.

Draws one-line mutations of the rooms in `TESTS` at random, applies each to a copy of the package, runs the tests
of that room, and prints which survived.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {
    "metrics/values.py": ["tests/test_metrics.py"],
    "metrics/intervals.py": ["tests/test_metrics.py"],
    "stats.py": ["tests/test_stats.py", "tests/test_conformance.py"],
    "outputs.py": ["tests/test_detectors.py", "tests/test_collect.py", "tests/test_conformance.py"],
    "detectors/logits.py": ["tests/test_detectors.py", "tests/test_conformance.py"],
    "detectors/mahalanobis.py": ["tests/test_detectors.py", "tests/test_conformance.py"],
    "detectors/knn.py": ["tests/test_detectors.py", "tests/test_conformance.py"],
    "detectors/search.py": ["tests/test_search.py"],
    "detectors/react.py": ["tests/test_detectors.py", "tests/test_conformance.py"],
    "detectors/base.py": ["tests/test_detectors.py", "tests/test_conformance.py"],
    "detectors/compose.py": ["tests/test_detectors.py"],
    "classifier/heads.py": ["tests/test_classifier.py"],
    "classifier/sources.py": ["tests/test_classifier.py"],
    "store.py": ["tests/test_collect.py", "tests/test_nothing_lost.py"],
    "collect.py": ["tests/test_collect.py"],
    "data/pictures.py": ["tests/test_data.py"],
    "data/files.py": ["tests/test_data.py"],
    "data/lists.py": ["tests/test_data.py"],
    "data/order.py": ["tests/test_data.py"],
    "inputs.py": ["tests/test_inputs.py"],
    "compare.py": ["tests/test_compare.py"],
    "choose/apart.py": ["tests/test_choose.py"],
    "choose/record.py": ["tests/test_choose.py"],
    "choose/tuning.py": ["tests/test_choose.py"],
    "training/operations.py": ["tests/test_pictures.py"],
    "training/pictures.py": ["tests/test_pictures.py"],
}
SWAPS = {
    r" \+ ": " - ",
    r" - ": " + ",
    r" \* ": " / ",
    r" / ": " * ",
    r" < ": " <= ",
    r" <= ": " < ",
    r" > ": " >= ",
    r" >= ": " > ",
    r" == ": " != ",
    r"return -": "return ",
    r"\.amax\(": ".amin(",
    r"\.argmin\(": ".argmax(",
    r"\bmin\(": "max(",
    r"\bmax\(": "min(",
    r"\.sum\(": ".mean(",
    r"\.sqrt\(\)": "",
    r"\.square\(\)": "",
    r"\bnot ": "",
    r" and ": " or ",
    r"\b0\b": "1",
    r"\b1\b": "2",
    r"\b2\b": "3",
    r"largest=False": "largest=True",
    r"True": "False",
    r"\.double\(\)": ".float()",
}


def mutants(text: str) -> list[tuple[int, str, str]]:
    """Every one-line change of the code, not of comments and strings: line number, before, after."""
    prose = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, tokenize.FSTRING_START if hasattr(tokenize, "FSTRING_START") else tokenize.STRING):
            prose |= {(line, column) for line in range(token.start[0], token.end[0] + 1) for column in span(token, line)}
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r"\s*(import|from|def|class|@|assert|raise)\b", line) or ": ClassVar" in line:
            continue
        for pattern, replacement in SWAPS.items():
            for match in re.finditer(pattern, line):
                if (number, match.start()) not in prose:
                    found.append((number, line, line[: match.start()] + replacement + line[match.end() :]))
    return found


def span(token: tokenize.TokenInfo, line: int) -> range:
    start = token.start[1] if line == token.start[0] else 0
    return range(start, token.end[1] if line == token.end[0] else 10_000)


def survives(copy: Path, file: str, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=900, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", action="append", choices=list(TESTS))
    arguments = parser.parse_args()
    every = [(file, *mutant) for file in arguments.file or TESTS for mutant in mutants((ROOT / "src/farfield" / file).read_text("utf-8"))]
    chosen = random.Random(arguments.seed).sample(every, min(arguments.number, len(every)))
    survived = 0
    for file, number, before, after in chosen:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder)
            for name in ("src", "tests", "benchmarks"):
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", copy)
            path = copy / "src/farfield" / file
            lines = path.read_text("utf-8").splitlines(keepends=True)
            lines[number - 1] = after + "\n"
            path.write_text("".join(lines), "utf-8")
            alive = survives(copy, file, TESTS[file])
        survived += alive
        print(f"{'SURVIVED' if alive else 'killed'} {file}:{number}: {before.strip()}  =>  {after.strip()}", flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} killed ({100 * (1 - survived / len(chosen)):.0f} %); {len(every)} mutations are possible")


if __name__ == "__main__":
    main()
