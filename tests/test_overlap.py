"""Near-duplicates and shared classes: against hashes, distances and pairs computed the plain way."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageEnhance
from scipy.fft import dctn

from farfield import overlap
from farfield.data.files import Files, folder
from farfield.data.images import Images
from farfield.data.suites import classes as lists
from farfield.outputs import Outputs
from farfield.overlap import Pair, by_features, by_hash, nearest_features, nearest_hashes, perceptual_hash, shared_classes, to_csv


def scene(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A picture with large and small shapes, as photographs have."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.3)


def bits(packed: np.ndarray) -> list[int]:
    return [int(packed[i // 8]) >> (7 - i % 8) & 1 for i in range(64)]


def plain_hash(picture: Image.Image) -> list[int]:
    grey = np.asarray(picture.convert("L").resize((32, 32), Image.Resampling.BOX), np.float64)
    low = dctn(grey, norm="ortho")[:8, :8].ravel()
    return [int(value > sorted(low)[31] / 2 + sorted(low)[32] / 2) for value in low]


@pytest.mark.parametrize("seed", range(8))
def test_the_hash_is_that_of_its_formula(seed: int) -> None:
    assert bits(perceptual_hash(scene(seed))) == plain_hash(scene(seed))


def test_the_dct_is_orthonormal() -> None:
    rows = overlap._DCT
    assert np.allclose(rows @ rows.T, np.eye(8), atol=1e-12)
    direct = [[math.cos(math.pi * k * (2 * x + 1) / 64) * math.sqrt((1 if k == 0 else 2) / 32) for x in range(32)] for k in range(8)]
    assert np.allclose(rows, direct)


def test_copies_are_near_and_other_pictures_far() -> None:
    original = perceptual_hash(scene(0))
    jpeg = io.BytesIO()
    scene(0).save(jpeg, "JPEG", quality=30)
    copies = [Image.open(jpeg), scene(0).resize((55, 70)), ImageEnhance.Brightness(scene(0)).enhance(0.8), scene(0).convert("L")]
    near = [int(overlap.distances(original[None], perceptual_hash(copy)[None])) for copy in copies]
    assert max(near) <= overlap.WITHIN
    far = [int(overlap.distances(original[None], perceptual_hash(scene(seed))[None])) for seed in range(1, 30)]
    assert min(far) > 10


def test_flat_pictures_have_no_bits_by_chance() -> None:
    hashes = {perceptual_hash(Image.new("RGB", (w, h), (c, c, 99))).tobytes() for w in (3, 32, 50) for h in (40, 41) for c in (7, 200)}
    assert len(hashes) == 1


packed = arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(8)))


@settings(max_examples=60)
@given(packed, packed)
def test_distances_are_counts_of_bits(a: np.ndarray, b: np.ndarray) -> None:
    found = overlap.distances(a, b)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            assert int(found[i, j]) == sum(int(x ^ y).bit_count() for x, y in zip(one.tolist(), other.tolist(), strict=True))


def test_the_nearest_hash_is_found_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlap, "_QUERIES", 7)
    monkeypatch.setattr(overlap, "_BANK", 13)
    random = np.random.default_rng(0)
    bank, queries = random.integers(256, size=(50, 8), dtype=np.uint8), random.integers(256, size=(20, 8), dtype=np.uint8)
    rows, distance = nearest_hashes(queries, bank)
    every = overlap.distances(queries, bank)
    assert torch.equal(distance, every.amin(1)) and torch.equal(every[torch.arange(20), rows], distance)


@pytest.mark.parametrize("chunk", [29, 64, 500])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_nearest_features_are_those_of_the_whole_product(chunk: int, offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    bank, queries = (torch.randn(n, 24, generator=generator) + offset for n in (300, 90))
    bank[7], queries[3], queries[4] = 5 * queries[2], 0.0, bank[250] * 1e-3
    rows, distance = nearest_features(queries, bank.split(chunk))
    unit = [x.double() / x.double().norm(dim=1, keepdim=True).clamp_min(1e-30) for x in (queries, bank)]
    cosines = unit[0] @ unit[1].T
    assert torch.allclose(distance, 1 - cosines.amax(1), atol=1e-12)
    assert torch.allclose(cosines[torch.arange(90), rows], cosines.amax(1), atol=1e-12)
    assert int(rows[2]) == 7 and float(distance[2]) < 1e-9 and int(rows[4]) == 250 and float(distance[3]) == 1.0


def test_many_equal_rows_are_all_as_near(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = torch.ones(400, 8)
    rows, distance = nearest_features(torch.ones(3, 8) * 2, [bank])  # more equals than the fast search keeps
    assert distance.tolist() == pytest.approx([0, 0, 0], abs=1e-12) and rows.max() < 400


# --- on files -----------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Files, dict[str, Files]]:
    for seed in range(12):
        path = tmp_path / "train" / f"n0144353{seed % 2}" / f"{seed}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scene(seed).save(path)
    for name, seeds in (("birds", [100, 3, 101, 7]), ("fish", [102, 103])):
        for seed in seeds:
            path = tmp_path / name / ("Goldfish" if seed % 2 else "Other_Bird") / f"copy of {seed}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            scene(seed).resize((90, 90)).save(path, quality=60)
    (tmp_path / "birds" / "Goldfish" / "broken.jpg").write_bytes(b"no picture")
    return folder(tmp_path / "train", labelled=True), {name: folder(tmp_path / name) for name in ("birds", "fish")}


def test_planted_copies_are_found_by_hash_and_nothing_else(sets: tuple[Files, dict[str, Files]]) -> None:
    told: list[tuple[str, int, int]] = []
    pairs = by_hash(*sets, progress=lambda *step: told.append(step))
    assert {(Path(pair.ood).name, Path(pair.id).name, pair.ood_set, pair.by) for pair in pairs} == {
        ("copy of 3.jpg", "3.png", "birds", "hash"),
        ("copy of 7.jpg", "7.png", "birds", "hash"),
    }
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)
    assert ("hashes of train", 12, 12) in told and ("hashes of fish", 2, 2) in told
    assert len(by_hash(*sets, within=63)) == 6  # every picture that can be read has a nearest one


def test_features_give_pairs_with_the_rows_that_were_read(sets: tuple[Files, dict[str, Files]]) -> None:
    train, ood = sets
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(12, 16, generator=generator)
    seen = torch.cat([features[5:6] * 3, torch.randn(3, 16, generator=generator)])
    birds = Outputs(features=seen, ids=torch.tensor([0, 1, 3, 4]))  # the third could not be read
    pairs = by_features((train, Outputs(features=features)), {"birds": (ood["birds"], birds)}, distance=0.01)
    assert [(pair.by, pair.ood, pair.id) for pair in pairs] == [("features", ood["birds"].name_of(0), train.name_of(5))] and pairs[0].distance < 1e-9
    every = by_features((train, Outputs(features=features)), {"birds": (ood["birds"], birds)}, distance=2.0)
    assert [pair.ood for pair in every if pair.ood == ood["birds"].name_of(3)] and len(every) == 4
    assert not [pair for pair in every if pair.ood == ood["birds"].name_of(2)]


def test_the_csv_has_every_pair() -> None:
    pairs = [Pair("hash", "a", 'x "y", z.jpg', "t\n.png", 3.0), Pair("features", "b", "c", "d", 0.0123456789)]
    rows = list(csv.reader(io.StringIO(to_csv(pairs))))
    assert rows == [["by", "set", "ood", "id", "distance"], ["hash", "a", 'x "y", z.jpg', "t\n.png", "3"], ["features", "b", "c", "d", "0.0123457"]]


# --- classes ------------------------------------------------------------------------------------------------------------------------------


def test_classes_are_shared_by_name_synonym_and_wordnet_id(sets: tuple[Files, dict[str, Files]]) -> None:
    names = lists.synonyms("imagenet-1k")
    found = shared_classes(names, sets[1])
    assert [(one.ood_set, one.ood_class, one.id_class, one.pictures) for one in found] == [
        ("birds", "Goldfish", "goldfish", 4),
        ("fish", "Goldfish", "goldfish", 1),
    ]
    wnids = shared_classes(
        [("goldfish",), ("Carassius_AURATUS",)], {"x": Files("x", Path(), ("n01443537/1.jpg", "n01443538/1.jpg"), torch.tensor([-1, -1]))}
    )
    assert [(one.ood_class, one.id_class) for one in wnids] == [("n01443537", "goldfish")]


def test_a_single_folder_says_nothing_of_classes() -> None:
    assert overlap.classes_in(Files("x", Path(), ("images/1.jpg", "images/2.jpg"), torch.tensor([-1, -1]))) == {}
    assert overlap.classes_in(Images("x", torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.tensor([-1]))) == {}
    assert shared_classes([()], {"x": object()}) == []


def test_glyphs_share_no_picture(tmp_path: Path) -> None:
    from farfield import inputs
    from farfield.data import suites

    suite = inputs.limited_suite(suites.load("glyphs-200"), 60)
    ood: dict[str, Any] = {entry.name: entry.load() for entry in suite.ood if entry.name in ("letters", "digits")}
    pairs = by_hash(suite.split("train"), ood, within=2)
    assert all(pair.distance <= 2 and pair.ood.startswith(("letters", "digits")) for pair in pairs)
    assert len(pairs) < 12
