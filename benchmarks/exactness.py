"""How far each detector's scores are from a float64 loop written as its paper writes it: `python benchmarks/exactness.py`.

Prints the largest relative difference over all samples of each world of the conformance suite, float32 in and out. The loops are those of
`tests/oracles.py`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import oracles
from farfield.detectors import parse
from farfield.testing import world
from farfield.testing.checks import arrays

ORACLES = {
    "msp": oracles.msp,
    "maxlogit": oracles.maxlogit,
    "energy": oracles.energy,
    "react+energy": oracles.react_energy,
    "mahalanobis": oracles.mahalanobis,
    "knn": oracles.knn,
}
WORLDS = {
    "easy": {},
    "offset 1000": {"offset": 1000.0},
    "uneven units": {"uneven": True},
    "n < d": {"n": 60, "d": 96},
    "d 512, c 100": {"n": 2000, "d": 512, "c": 100},
}


def main() -> None:
    warnings.simplefilter("ignore")
    print(f"{'':14}" + "".join(f"{name:>14}" for name in WORLDS))
    for text, oracle in ORACLES.items():
        errors = []
        for options in WORLDS.values():
            some = world(**options)  # type: ignore[arg-type]
            detector = parse(text)(some.train)
            for test in (some.id, some.ood):
                exact = np.asarray(oracle(arrays(some.train), arrays(test)))
                errors.append(np.abs((detector(test).double().numpy() - exact) / exact).max())
        print(f"{text:14}" + "".join(f"{max(pair):14.1e}" for pair in zip(errors[::2], errors[1::2], strict=True)))


if __name__ == "__main__":
    main()
