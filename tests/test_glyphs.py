"""Glyphs is what its documentation says it is."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import farfield as ff
from farfield.data import alphabet, glyphs, noise, suites
from farfield.data.images import Images

FROZEN = alphabet.load()


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARFIELD_CACHE", str(tmp_path_factory.getbasetemp() / "glyphs-cache"))


def test_the_frozen_choice_is_what_the_rule_gives() -> None:
    assert alphabet.select() == FROZEN


def test_sizes_and_digits() -> None:
    assert [len(FROZEN[key]) for key in ("classes", "classes_200", "letters")] == [1000, 200, 250]  # type: ignore[literal-required]
    assert set(FROZEN["classes_200"]) < set(FROZEN["classes"])
    assert {ord("0") + digit for digit in range(10)} <= set(FROZEN["classes_200"])


def test_no_character_has_two_roles() -> None:
    roles = [set(FROZEN["classes"]), set(FROZEN["letters"]), set(FROZEN["scripts"])]
    assert sum(map(len, roles)) == len(set.union(*roles)) == len(FROZEN["classes"]) + len(FROZEN["letters"]) + len(FROZEN["scripts"])


def test_homoglyphs_are_gone_by_a_comparison_of_its_own() -> None:
    """No unseen character's bitmap is within a hair of a class's in a test face, pixel for pixel."""
    for face in alphabet.TEST_FACES:
        classes = alphabet.masks(face, FROZEN["classes"]).flatten(1).float().numpy() / 255
        for role in ("letters", "scripts", "classes"):
            unseen = alphabet.masks(face, FROZEN[role]).flatten(1).float().numpy() / 255  # type: ignore[literal-required]
            distance = np.square(unseen).sum(1)[:, None] + np.square(classes).sum(1) - 2 * unseen @ classes.T
            distance /= np.square(unseen).sum(1)[:, None] + np.square(classes).sum(1)
            if role == "classes":
                np.fill_diagonal(distance, 1)
            assert distance.min() > 0.02
    # The comparison finds what it should: Latin, Greek and Cyrillic A, and only those.
    same = alphabet.homoglyphs([ord("A")], [ord("Α"), ord("А"), ord("B"), ord("H")], alphabet.TEST_FACES)
    assert same.tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("classes", [200, 1000])
def test_the_taxonomy_parts_the_classes(classes: int) -> None:
    suite = glyphs.suite(classes)
    assert len(suite.taxonomy) == 8
    assert sorted(itertools.chain(*suite.taxonomy.values())) == list(range(classes))
    assert min(map(len, suite.taxonomy.values())) >= 25
    names = {suite.classes[label]: group for group, labels in suite.taxonomy.items() for label in labels}
    assert names["7"] == "numbers-modifiers"
    assert {names.get(letter, group) for letter, group in {"C": "latin-upper", "ϵ": "greek", "ж": "cyrillic"}.items()} <= set(suite.taxonomy)


@pytest.mark.parametrize(("colours", "descending"), [(glyphs.PAPERS, True), (glyphs.INKS, False)])
def test_exchanging_channels_leaves_the_palette(colours: tuple[tuple[float, float, float], ...], descending: bool) -> None:
    for colour in colours:
        steps = np.diff(colour) * (-1 if descending else 1)
        assert steps.min() >= 0.0699
        for order in list(itertools.permutations(range(3)))[1:]:
            shuffled = np.array(colour)[list(order)]
            assert min(np.abs(shuffled - np.array(other)).max() for other in colours) >= 0.0699 / 2 or not (np.diff(shuffled) * steps > 0).all()
            assert not ((np.diff(shuffled) * (-1 if descending else 1)) > 0).all()


def test_a_picture_keeps_its_papers_order_of_channels_and_a_shuffled_one_does_not() -> None:
    pictures = glyphs.draw_split(200, "calibration").images.float().mean((2, 3))
    assert (pictures[:, 0] > pictures[:, 1]).float().mean() > 0.999
    assert (pictures[:, 1] > pictures[:, 2]).float().mean() > 0.999


def test_drawing_again_gives_the_same_pixels_and_another_epoch_others() -> None:
    first, again = glyphs.draw_split(200, "calibration"), glyphs.draw_split(200, "calibration")
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, glyphs.draw_split(200, "calibration", epoch=1).images)


def test_splits_show_every_class_equally_often_in_the_right_faces() -> None:
    suite = glyphs.suite(200)
    for split, each in {"test": 20, "calibration": 10}.items():
        assert torch.bincount(suite.split(split).labels).tolist() == [each] * 200
    assert not set(alphabet.TRAIN_FACES) & set(alphabet.TEST_FACES)
    assert len(alphabet.TRAIN_FACES) == 10


def test_test_and_calibration_share_no_picture() -> None:
    suite = glyphs.suite(200)
    test, calibration = ({row.numpy().tobytes() for row in suite.split(split).images} for split in ("test", "calibration"))
    assert not test & calibration


def test_the_cache_gives_what_drawing_gives_and_survives_its_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = glyphs._letters()
    monkeypatch.setenv("FARFIELD_CACHE", str(tmp_path))
    letters = glyphs.suite(200).ood[0]
    first, second = letters.load(), letters.load()
    assert torch.equal(first.images, drawn.images)
    assert torch.equal(second.images, drawn.images)
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["letters.safetensors"]
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"half a file")
    assert torch.equal(letters.load().images, drawn.images)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FARFIELD_CACHE", str(tmp_path / "file"))
    assert torch.equal(letters.load().images, drawn.images)


def test_the_sets_to_tell_from_are_as_documented() -> None:
    suite = glyphs.suite(200)
    sets = {ood.name: (ood.group, ood.load()) for ood in suite.ood}
    assert {name: group for name, (group, _) in sets.items()} == {
        "letters": "near",
        "scripts": "near",
        "photos": "far",
        "noise": "far",
        "digits": "shifted",
    }
    assert {name: len(images) for name, (_, images) in sets.items()} == {
        "letters": 2000,
        "scripts": 2000,
        "photos": 2000,
        "noise": 1700,
        "digits": 1797,
    }
    photos, digits = sets["photos"][1], sets["digits"][1]
    assert photos.clusters is not None
    assert torch.bincount(photos.clusters).tolist() == [1000, 1000]
    assert {suite.classes[label] for label in digits.labels.unique()} == set("0123456789")
    assert all((images.labels == -1).all() for name, (_, images) in sets.items() if name != "digits")


def test_the_sets_to_choose_by_are_renderings_of_their_own_that_are_no_glyphs() -> None:
    suite = glyphs.suite(200)
    sets = {ood.name: ood.load() for ood in suite.validation}
    assert {name: (len(images), set(images.labels.tolist())) for name, images in sets.items()} == {"jigsaw": (2000, {-1}), "channels": (2000, {-1})}
    known = [row for split in ("test", "calibration") for row in suite.split(split).images]
    tiles, channels = ({tuple(sorted(part.numpy().tobytes() for part in cut(row))) for row in known} for cut in (tiles_of, tuple))
    assert not tiles & {tuple(sorted(part.numpy().tobytes() for part in tiles_of(row))) for row in sets["jigsaw"].images}
    assert not channels & {tuple(sorted(part.numpy().tobytes() for part in row)) for row in sets["channels"].images}
    # Put back in order they are what they were drawn as, and none was left as it was.
    drawn = glyphs.draw_split(200, "calibration", 1).images
    for row, one in zip(sets["jigsaw"].images[:200], drawn, strict=False):
        assert sorted(tile.numpy().tobytes() for tile in tiles_of(row)) == sorted(tile.numpy().tobytes() for tile in tiles_of(one))
    assert not (sets["jigsaw"].images == drawn).flatten(1).all(1).any()
    means = sets["channels"].images.float().mean((2, 3))
    assert ((means[:, 0] > means[:, 1]) & (means[:, 1] > means[:, 2])).float().mean() < 0.001
    orders = means.argsort(1).unique(dim=0, return_counts=True)[1]
    assert orders.sort().values[-5:].min() > 300


def tiles_of(picture: torch.Tensor) -> list[torch.Tensor]:
    """The sixteen tiles of a picture."""
    return [tile for row in picture.split(8, 1) for tile in row.split(8, 2)]


def test_each_family_of_noise_is_a_part() -> None:
    together = next(ood.load() for ood in glyphs.suite(200).ood if ood.name == "noise")
    assert tuple(together.parts) == noise.FAMILIES
    covered = torch.zeros(len(together))
    for part in together.parts.values():
        covered[part] += 1
    assert (covered == 1).all()
    white = together.images[together.parts["white"]]
    assert (white == 255).all()


def test_other_typefaces_are_refused() -> None:
    changed = {**FROZEN, "fonts": {**FROZEN["fonts"], "DejaVuSans": "0" * 32}}
    with pytest.raises(ff.InputError, match="typeface DejaVuSans in this matplotlib differs"):
        alphabet.check_fonts(changed)  # type: ignore[arg-type]


def test_unknown_suites_and_sizes_are_refused() -> None:
    with pytest.raises(ff.InputError, match="no suite 'glyphs-20'; did you mean 'glyphs-200'"):
        suites.load("glyphs-20")
    with pytest.raises(ff.InputError, match="200 or 1000 classes; got 10"):
        glyphs.suite(10)


def test_images_fingerprint_is_of_pixels_and_labels() -> None:
    one = Images("a", torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]))
    assert one.fingerprint() == Images("b", one.images.clone(), one.labels.clone()).fingerprint()
    assert one.fingerprint() != Images("a", one.images, torch.tensor([1, 0])).fingerprint()
    assert one.fingerprint() != Images("a", one.images + 1, one.labels).fingerprint()
