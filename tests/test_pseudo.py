"""Pseudo-OOD: pictures made of ID ones, and classes that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from farfield.choose.pseudo import Without, folds, invented, mixtures, partners, squares, unit_tests
from farfield.data import noise
from farfield.data.files import folder
from farfield.data.images import Images
from farfield.errors import InputError
from farfield.inputs import labelled_data
from farfield.outputs import Head, Outputs

GENERATOR = torch.Generator().manual_seed(0)


def pictures(n: int = 12, classes: int = 3, side: int = 8) -> Images:
    images = torch.randint(0, 256, (n, 3, side, side), generator=GENERATOR, dtype=torch.uint8)
    return Images("some", images, torch.arange(n) % classes)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(0, 3))
@settings(max_examples=60)
def test_a_partner_is_of_another_class_where_there_is_one(labels: list[int], seed: int) -> None:
    given_ = torch.tensor(labels)
    found = partners(given_, seed)
    several = len(set(labels)) > 1
    assert bool((found >= 0).all()) == several
    if several:
        assert bool((given_[found] != given_).all())
    assert torch.equal(found, partners(given_, seed))


def test_without_labels_any_other_picture_is_a_partner() -> None:
    found = partners(torch.full((9,), -1), 0)
    assert sorted(found.tolist()) == list(range(9)) and bool((found != torch.arange(9)).all())


def test_partners_are_spread_over_the_pictures() -> None:
    found = partners(torch.arange(1000) % 10, 0)
    assert torch.bincount(found).max() <= 8


def test_mixtures_are_weighted_means() -> None:
    some = pictures(150)  # more than are mixed at once
    partner = partners(some.labels, 7)
    for share in (0.1, 0.5):
        made = mixtures(some, share, seed=7)
        for row in range(len(some)):
            x, other = (some.images[i].numpy().astype(np.float64) for i in (row, int(partner[row])))
            assert np.abs(made[row].numpy() - ((1 - share) * x + share * other)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize("share", [0.0, -0.1, 0.6])
def test_a_share_has_its_range(share: float) -> None:
    with pytest.raises(InputError, match=r"above 0 and at most 0\.5"):
        mixtures(pictures(), share)


def test_each_kind_says_which_picture_it_is_made_of() -> None:
    some = pictures(8, 3, 12)
    grey = some.images.clone()
    grey[3] = grey[3, :1]
    some = Images("some", grey, some.labels)
    made = invented(some)
    assert set(made) == {"mixup", "jigsaw", "channels", "noise"}
    for row, source in enumerate(made["jigsaw"].clusters.tolist()):
        tiles = [some.images[source][:, i : i + 3, j : j + 3] for i in range(0, 12, 3) for j in range(0, 12, 3)]
        there = [made["jigsaw"].images[row][:, i : i + 3, j : j + 3] for i in range(0, 12, 3) for j in range(0, 12, 3)]
        as_text = [sorted(tile.numpy().tobytes() for tile in side) for side in (tiles, there)]
        assert as_text[0] == as_text[1] and not torch.equal(made["jigsaw"].images[row], some.images[source])
    assert 3 not in made["channels"].clusters.tolist() and len(made["channels"]) == 7
    for row, source in enumerate(made["channels"].clusters.tolist()):
        assert sorted(made["channels"].images[row].sum((1, 2)).tolist()) == sorted(some.images[source].sum((1, 2)).tolist())
    assert all(bool((one.labels == -1).all()) for one in made.values())
    assert made["noise"].clusters is None


def test_noise_has_its_families() -> None:
    some = pictures()
    made = unit_tests(some, 3, seed=2)
    assert list(made.parts) == [name.replace("_", " ") for name in noise.FAMILIES] and len(made) == 51
    for family in ("white", "pixel_permutation"):
        span = made.parts[family.replace("_", " ")]
        assert torch.equal(made.images[span], noise.generate(family, 3, (8, 8), seed=2, source=some.images))


def test_tiny_grey_pictures_of_one_class_make_little() -> None:
    dots = Images("dots", torch.full((4, 3, 2, 2), 7, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64))
    assert set(invented(dots)) == set()


def test_the_same_seed_makes_the_same() -> None:
    some = pictures()
    one, same, other = (invented(some, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[kind].images, same[kind].images) for kind in one)
    assert not torch.equal(one["mixup"].images, other["mixup"].images) and not torch.equal(one["noise"].images, other["noise"].images)


# --- squares --------------------------------------------------------------------------------------------------------------------------------


def test_squares_are_the_middle(tmp_path: Path) -> None:
    for name, size in (("cat", (30, 20)), ("dog", (10, 40))):
        (tmp_path / name).mkdir()
        array = np.zeros((size[1], size[0], 3), np.uint8)
        array[:, : size[0] // 3] = 255  # left of the middle square of a wide picture: a third of 30 is 10, the square begins at 5
        Image.fromarray(array).save(tmp_path / name / "one.png")
    (tmp_path / "dog" / "broken.png").write_bytes(b"no picture")
    made, failed = squares(labelled_data(folder(tmp_path, labelled=True), 2, None, None), 20, name="held")
    assert made.images.shape == (2, 3, 20, 20) and [failure.name for failure in failed] == [str(tmp_path / "dog" / "broken.png")]
    assert made.labels.tolist() == [0, 1]
    assert made.images[0, 0, 0].tolist()[:5] == [255] * 5 and made.images[0, 0, 0, 6:].max() < 30


def test_whole_pictures_are_squashed() -> None:
    wide = Image.new("RGB", (40, 10), "black")
    wide.paste("white", (0, 0, 10, 10))  # the left quarter
    made, _ = squares([(wide, 0)], 20, name="held", whole=True)
    assert made.images.shape == (1, 3, 20, 20) and made.images[0, 0, 10, :4].min() > 200 and made.images[0, 0, 10, 7:].max() < 50
    assert squares([(wide, 0)], 20, name="held")[0].images.max() == 0


def test_pictures_in_memory_stay() -> None:
    some = pictures()
    made, failed = squares(some, 99, name="held")
    assert torch.equal(made.images, some.images) and made.name == "held" and not failed


def test_pairs_and_dicts_have_labels() -> None:
    picture = Image.new("RGB", (9, 9), "red")
    assert squares([(picture, 2), (picture, 5)], 9, name="pairs")[0].labels.tolist() == [2, 5]
    assert squares([{"image": picture, "label": 3}], 9, name="dicts")[0].labels.tolist() == [3]
    assert squares([picture], 9, name="alone")[0].labels.tolist() == [-1]


def test_no_picture_is_an_error() -> None:
    with pytest.raises(InputError, match="None of the 1 pictures of held can be read"):
        squares([("nothing", 0)], 9, name="held")


# --- left-out classes ---------------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.floats(0.05, 0.5), st.integers(1, 3))
@settings(max_examples=40)
def test_folds_leave_out_a_share_and_share_no_class(classes: int, share: float, count: int) -> None:
    found = folds(classes, share, count)
    many = max(1, round(share * classes))
    assert [int(fold.sum()) for fold in found] == [min(many, classes)] * count
    if many * count <= classes:
        assert int(torch.stack(found).sum(0).max()) == 1


def outputs(n: int = 20, classes: int = 5) -> Outputs:
    head = Head(torch.randn(classes, 4, generator=GENERATOR), torch.randn(classes, generator=GENERATOR))
    features = torch.randn(n, 4, generator=GENERATOR)
    return Outputs(logits=head(features), features=features, labels=torch.arange(n) % classes, head=head, ids=torch.arange(n))


def test_a_classifier_without_classes_is_one_whose_head_has_not_their_rows() -> None:
    whole = outputs()
    out = torch.tensor([False, True, False, False, True])
    kept, gone = Without(whole, out).load(), Without(whole, out, only=True).load()
    assert kept.ids.tolist() == [i for i in range(20) if i % 5 not in (1, 4)] and gone.ids.tolist() == [i for i in range(20) if i % 5 in (1, 4)]
    for part in (kept, gone):
        assert part.head.classes == 3 and torch.allclose(part.head(part.features), part.logits)
    assert kept.labels.tolist() == [{0: 0, 2: 1, 3: 2}[i % 5] for i in kept.ids.tolist()]
    assert bool((gone.labels == -1).all())


def test_unlabelled_samples_are_on_no_side() -> None:
    whole = outputs().having(labels=torch.tensor([-1] * 10 + [0, 1] * 5))
    out = torch.tensor([True, False, False, False, False])
    assert len(Without(whole, out).load()) == 5 and len(Without(whole, out, only=True).load()) == 5


def test_left_out_of_chunks_is_left_out_of_the_whole() -> None:
    whole, out = outputs(), torch.tensor([False, True, False, False, True])
    parts = Without([whole[:7], whole[7:]], out).load()
    assert torch.equal(parts.logits, Without(whole, out).load().logits)


def test_what_cannot_be_left_out_says_why() -> None:
    whole, out = outputs(), torch.ones(5, dtype=torch.bool)
    with pytest.raises(InputError, match="No sample is left"):
        Without(whole, out).load()
    with pytest.raises(InputError, match="labelled data alone"):
        Without(whole.having(labels=None), out).load()
    grouped = Head(torch.eye(3), torch.zeros(3), groups=torch.tensor([-1, 0, 1]))
    with pytest.raises(InputError, match="each of several groups"):
        Without(Outputs(logits=torch.eye(3), labels=torch.arange(3) % 2, head=grouped), torch.tensor([True, False])).load()
