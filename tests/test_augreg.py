"""Names of augreg's files against their parts, and the pool of ViTs against timm's registry."""

from __future__ import annotations

import re

import pytest
import timm
from hypothesis import given
from hypothesis import strategies as st

import farfield as ff
from farfield.models.zoo.augreg import AUGMENTATIONS, COLUMNS, TIMM, Augreg, Finetuning, parse, pool

NAME = "B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0--imagenet2012-steps_20k-lr_0.01-res_224.npz"


def test_a_name_is_its_parts() -> None:
    assert parse(NAME) == Augreg("B_16", "i21k", 300, 0.001, "medium1", 0.1, 0.0, 0.0, Finetuning("imagenet2012", 20_000, 0.01, 224))
    assert parse("R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0.npz") == Augreg("R_Ti_16", "i21k", 300, 0.001, "none", 0.03, 0.0, 0.0)
    assert parse(NAME.replace("20k", "500")).finetuning == Finetuning("imagenet2012", 500, 0.01, 224)
    assert parse(NAME.removesuffix(".npz")) == parse(NAME)


@given(
    model=st.sampled_from([*TIMM]), data=st.sampled_from(["i1k", "i21k"]), epochs=st.integers(1, 999), lr=st.sampled_from(["0.001", "0.03", "1"]),
    augmentation=st.sampled_from(AUGMENTATIONS), decay=st.sampled_from(["0.03", "0.1"]), dropout=st.sampled_from(["0.0", "0.1"]), depth=st.sampled_from(["0.0", "0.1"]),
    tuned=st.none() | st.tuples(st.sampled_from(["imagenet2012", "cifar100", "oxford_iiit_pet"]), st.integers(1, 99), st.sampled_from([224, 384])),
)  # fmt: skip
def test_every_part_comes_back(
    model: str, data: str, epochs: int, lr: str, augmentation: str, decay: str, dropout: str, depth: str, tuned: tuple[str, int, int] | None
) -> None:
    name = f"{model}-{data}-{epochs}ep-lr_{lr}-aug_{augmentation}-wd_{decay}-do_{dropout}-sd_{depth}"
    name += "" if tuned is None else f"--{tuned[0]}-steps_{tuned[1]}k-lr_{lr}-res_{tuned[2]}"
    after = None if tuned is None else Finetuning(tuned[0], 1000 * tuned[1], float(lr), tuned[2])
    found = parse(name)
    assert found == Augreg(model, data, epochs, float(lr), augmentation, float(decay), float(dropout), float(depth), after)
    assert found.timm == f"{TIMM[model]}_{224 if tuned is None else tuned[2]}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet50.npz", "'resnet50.npz' is not the name of an augreg file: 'resnet50' is not of the form MODEL-i21k-300ep"),
        (NAME.replace("i21k", "i22k"), "is not the name of an augreg file: 'B_16-i22k"),
        (NAME.replace("wd_0.1-", ""), "is not the name of an augreg file"),
        (NAME.replace("wd_0.1", "wd_0.1.2"), "is not the name of an augreg file"),
        (NAME.replace("-res_224", ""), "'imagenet2012-steps_20k-lr_0.01' after the two dashes is not of the form"),
        (NAME.replace("--imagenet2012-steps_20k-lr_0.01-res_224", "--"), "'' after the two dashes"),
        (NAME + ".npz", "is not the name of an augreg file"),
        (NAME.replace("B_16", "B_61"), "names the model 'B_61'; did you mean 'B_16'? There are Ti_16"),
        (NAME.replace("medium1", "medium3"), "names the augmentation 'medium3'; did you mean 'medium2'? There are none, light0"),
        ("", "is not the name of an augreg file"),
    ],
)
def test_another_name_is_refused(name: str, message: str) -> None:
    with pytest.raises(ff.InputError, match=re.escape(message).replace("medium2", "medium[12]")):
        parse(name)


def test_the_pool_is_timms_vits_of_augreg_and_clip_with_a_head_of_imagenet() -> None:
    names = {member.name for member in pool()}
    expected = {
        name
        for name in timm.list_pretrained("vit_*")
        if ("augreg" in name or "_clip_" in name) and timm.get_pretrained_cfg(name).num_classes == 1000  # type: ignore[union-attr]
    }
    assert names == expected and len(names) > 40


def test_what_a_files_name_says_agrees_with_timm() -> None:
    told = [member for member in pool() if member.trained is not None]
    assert told
    for member in told:
        trained = member.trained
        assert trained is not None and trained.finetuning is not None
        assert trained.timm == member.name.partition(".")[0]
        assert trained.finetuning.resolution == member.resolution and trained.finetuning.dataset == "imagenet2012"
        assert trained.pretraining == member.pretraining


def test_columns_are_what_is_known_and_none_elsewhere() -> None:
    rows = {member.name: member.columns() for member in pool()}
    for row in rows.values():
        assert tuple(row) == COLUMNS
    clip = rows["vit_base_patch32_clip_384.openai_ft_in12k_in1k"]
    assert (clip["pretraining"], clip["data"], clip["between"], clip["resolution"], clip["weight_decay"]) == (
        "clip",
        "openai",
        "imagenet-12k",
        384,
        None,
    )
    laion = rows["vit_large_patch14_clip_336.laion2b_ft_in1k"]
    assert (laion["data"], laion["between"], laion["resolution"]) == ("laion-2b", None, 336)
    again = rows["vit_base_patch16_224.augreg2_in21k_ft_in1k"]
    assert again["pretraining"] == "i21k" and again["epochs"] is None and again["file"] is None
    one = rows["vit_base_patch16_224.augreg_in1k"]
    assert one["pretraining"] == "i1k" and one["data"] == "imagenet"
    assert one["file"] is None or (one["augmentation"], one["dropout"], one["finetuning_steps"]) == ("strong2", 0.1, 20_000)
