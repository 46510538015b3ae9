"""Bad input on purpose: `python benchmarks/fuzz [--images 1000] [--lines 300] [--seed 0]`, on Linux.

Pictures in every format that Pillow writes here are mutilated and read: each must become an 8-bit RGB picture or raise `Unreadable` with one
line, within ten seconds and two gigabytes. All of them in one folder go through `collect` once: outputs and named failures must add up to the
files. Command lines and TOML files over small valid data are mutilated likewise and run: each must succeed, or say one sentence on stderr and
leave with status 2.

Prints a Markdown table and each violation with the way to see it again, and leaves with status 1 if there is one; only then the temporary
folder, outside which nothing is written, stays.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from asking import HEAD, Tally, serving
from bad_lines import fuzz_lines
from bad_pictures import fuzz_pictures


def main() -> int:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("--images", 1000), ("--lines", 300), ("--seed", 0)):
        parser.add_argument(option, type=int, default=default)
    given = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    folder = Path(tempfile.mkdtemp(prefix="farfield-fuzz-"))
    tallies: list[Tally] = []
    try:
        with serving(folder / "cache") as ask:
            tallies += fuzz_pictures(ask, given.images, given.seed, folder / "pictures") if given.images else []
            tallies += fuzz_lines(ask, given.lines, given.seed, folder / "lines") if given.lines else []
    finally:
        violations = [violation for tally in tallies for violation in tally.violations]
        shutil.rmtree(folder / "cache" if violations else folder, ignore_errors=True)
    print("\n".join(map(str, [HEAD, *tallies])))
    for violation in violations:
        print(f"\n- {violation}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
