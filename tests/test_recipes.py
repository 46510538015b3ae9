"""From a recipe's name and data to a run folder, and back to a classifier."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import transforms
from torchvision.models import ResNet18_Weights

import farfield as ff
from farfield import models, recipes
from farfield.classifier import Classifier
from farfield.classifier.sources import source_of
from farfield.data.images import Images
from farfield.data.transforms import FromPictures, Normalize, Preprocess
from farfield.errors import FarfieldWarning, InputError
from farfield.models.zoo import ZOO
from farfield.recipes import RECIPES, Entry, Setting, TrainingData, changed, open_training
from farfield.recipes.catalogue import MOS, bit_hyperrule
from farfield.recipes.making import fresh, save, set_dropout, train_only
from farfield.recipes.views import Views, normalization
from farfield.training import Draws, Recipe
from farfield.training.groups import layout

COLOURS = {"blue": (60, 60, 190), "green": (60, 190, 60), "red": (190, 60, 60)}
SHORT = {"steps": 2, "batch_size": 4}
NETS = {"vit": "vit", "vit-pretrain": "vit", "sft": "bit", "mos": "bit", "mos-bit": "bit"}

pytestmark = pytest.mark.filterwarnings("ignore:resnet has BatchNorm:farfield.errors.FarfieldWarning")


def draw(folder: Path, names: dict[str, tuple[int, int, int]], n: int, seed: int = 0) -> Path:
    """A folder with a sub-folder of noisy pictures of one colour each."""
    random = np.random.default_rng(seed)
    for name, colour in names.items():
        (folder / name).mkdir(parents=True)
        for i in range(n):
            noise = random.normal(colour, 40, (12 + 4 * (i % 3), 18, 3))
            Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8)).save(folder / name / f"{i:02d}.png")
    return folder


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    draw(folder / "train", COLOURS, 6)
    draw(folder / "val", COLOURS, 3, seed=1)
    return folder


def ran(source: str, name: str, data: TrainingData, out: Path, **values: Any) -> tuple[Classifier, list[dict[str, float]]]:
    """A model trained from random weights."""
    entry = replace(RECIPES[name], recipe=changed(RECIPES[name].recipe, {**SHORT, **values}))
    classifier = fresh(source, data.classes, seed=entry.recipe.seed)
    return classifier, recipes.run(classifier, name, entry, Setting(source, data), out)


@pytest.fixture(scope="module")
def runs(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folders of two steps, of each of our architectures."""
    folder = tmp_path_factory.mktemp("runs")
    for source in models.ARCHITECTURES:
        ran(source, "cross-entropy", open_training(str(tree)), folder / source, augment="none")
    return folder


def logits(classifier: Classifier) -> Tensor:
    random = torch.Generator().manual_seed(1)
    assert isinstance(classifier.input_size, tuple)
    return classifier.outputs(torch.randn(3, *classifier.input_size, generator=random)).logits  # type: ignore[return-value]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


# --- every recipe -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_saves_loads_and_its_json_reproduces_it(name: str, tree: Path, runs: Path, tmp_path: Path) -> None:
    entry = replace(RECIPES[name], recipe=changed(RECIPES[name].recipe, SHORT))
    source = NETS.get(name, "resnet")
    start = str(runs / source) if entry.finetunes else None

    def once(name: str, entry: Entry, out: Path) -> Classifier:
        classifier = fresh(source, 3, seed=entry.recipe.seed) if start is None else Classifier.load(start)
        setting = Setting(source, open_training(str(tree), classifier=classifier), start)
        if entry.recipe.objective == "mos":
            setting = replace(setting, groups=layout([[2], [0, 1]]))
        history = recipes.run(classifier, name, entry, setting, out)
        assert len((out / "metrics.jsonl").read_text().splitlines()) == len(history) == 1
        assert np.isfinite(history[0]["loss"])
        return classifier

    made = once(name, entry, tmp_path / "one")
    again = Classifier.load(str(tmp_path / "one"))
    assert same(made.module.state_dict(), again.module.state_dict())
    assert torch.allclose(logits(made), logits(again), atol=1e-4)  # one may keep its channels last in memory
    assert again.labels == ("blue", "green", "red")
    assert again.classes == 3
    assert (again.groups is not None) is (entry.recipe.objective == "mos")
    if start is not None and name != "mos":
        assert not torch.equal(logits(again), logits(Classifier.load(start)))
    told = json.loads((tmp_path / "one" / "recipe.json").read_text())
    assert (told["name"], told["model"], told["start"], told["data"], told["then"]) == (name, source, start, str(tree), entry.then)
    once(*recipes.recipe_of(str(tmp_path / "one" / "recipe.json")), tmp_path / "two")
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))


def test_each_entry_says_what_it_is() -> None:
    for name, entry in RECIPES.items():
        assert entry.what.endswith(".") and entry.paper and entry.model.startswith(("timm:", "zoo:")), name
        kind, _, model = entry.model.partition(":")
        assert model in ZOO if kind == "zoo" else timm.is_model(model.partition(".")[0]), name
        assert entry.then in ("", "augdelete")
        assert changed(entry.recipe, {}) == entry.recipe


def test_the_schedules_are_those_of_the_papers() -> None:
    from farfield.training.recipe import rate

    def drops(recipe: Recipe, steps: int) -> list[int]:
        factors = [rate(step, steps, recipe) for step in range(steps)]
        return [step for step in range(1, steps) if factors[step] < 0.2 * factors[step - 1]]

    assert drops(RECIPES["cross-entropy"].recipe, 90) == [30, 60]
    assert drops(MOS, 20_000) == [6_000, 12_000, 18_000]
    for samples, steps, warm, falls, mixed in (
        (19_999, 500, 100, [200, 300, 400], False),
        (20_000, 10_000, 500, [3_000, 6_000, 9_000], True),
        (499_999, 10_000, 500, [3_000, 6_000, 9_000], True),
        (500_000, 20_000, 500, [6_000, 12_000, 18_000], True),
    ):
        recipe = bit_hyperrule(RECIPES["mos-bit"].recipe, samples)
        assert (recipe.steps, recipe.warmup * recipe.steps, drops(recipe, steps)) == (steps, warm, falls)
        assert ("mix" in recipe.options) is mixed
    assert (RECIPES["sft"].recipe.steps, RECIPES["sft"].recipe.sharpness, RECIPES["sft"].recipe.lr) == (50, "sam-norm", 1e-3)


def test_mos_bit_takes_its_schedule_from_the_size_of_the_data(runs: Path, tmp_path: Path) -> None:
    entry = replace(RECIPES["mos-bit"], recipe=changed(RECIPES["mos-bit"].recipe, {"batch_size": 2}))
    pictures = Images("few", torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1, 2, 0]))

    def stop(what: str, done: int, total: int) -> None:
        assert (what, total) == ("training", 500)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recipes.run(Classifier.load(str(runs / "bit")), "mos-bit", entry, Setting("bit", TrainingData(pictures, 3)), tmp_path, progress=stop)
    told = json.loads((tmp_path / "recipe.json").read_text())["recipe"]
    assert (told["steps"], told["options"]) == (500, {})


# --- stop and go on -----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ema", "sft"])
def test_a_stop_inside_an_epoch_changes_nothing(name: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["farfield.recipes.run"]
    values = {"steps": 0, "epochs": 2}
    ran("resnet", name, open_training(str(tree)), tmp_path / "whole", **values)
    monkeypatch.setattr(module, "train", partial(module.train, save_every=0.0))
    seen = []

    def stop(what: str, done: int, total: int) -> None:
        seen.append(done)
        if len(seen) % 3 == 0:
            raise KeyboardInterrupt

    entry = replace(RECIPES[name], recipe=changed(RECIPES[name].recipe, {**SHORT, **values}))
    data = open_training(str(tree))
    for _ in range(9):
        try:
            recipes.run(fresh("resnet", 3), name, entry, Setting("resnet", data), tmp_path / "parts", progress=stop)
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "parts" / "model.safetensors").exists()
    assert max(seen) == 8 and len(seen) > 8
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    told = [[json.loads(line) for line in (tmp_path / place / "metrics.jsonl").read_text().splitlines()] for place in ("whole", "parts")]
    one, two = ([{**record, "seconds": 0} for record in records] for records in told)
    assert one == two


def test_a_finished_run_is_written_again_as_it_was(tree: Path, tmp_path: Path) -> None:
    ran("resnet", "t2fnorm", open_training(str(tree)), tmp_path)
    before = weights(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    ran("resnet", "t2fnorm", open_training(str(tree)), tmp_path)
    assert same(before, weights(tmp_path))


# --- models from elsewhere ----------------------------------------------------------------------------------------------------------------


MODEL = """
import torch
from torch import nn
from farfield import Classifier
from farfield.data.transforms import Normalize, Preprocess

def net():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.0), nn.Linear(32, 3))
    return Classifier.wrap(body, transform=Preprocess(resize=18, crop=16), name="mine", input_size=(3, 16, 16), labels=("blue", "green", "red"))
"""


@pytest.mark.parametrize("source", ["timm:test_resnet", "timm:test_vit.r160_in1k", "torchvision:shufflenet_v2_x0_5", "python:recipe_net:net"])
def test_a_run_of_a_model_from_elsewhere_loads_as_it_was(source: str, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipe_net.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(tmp_path))
    made, _ = ran(source, "cross-entropy", open_training(str(tree)), tmp_path / "run")
    again = Classifier.load(str(tmp_path / "run"))
    assert torch.equal(logits(made), logits(again))
    assert (again.labels, again.classes, again.input_size) == (("blue", "green", "red"), 3, made.input_size)
    assert source_of(str(tmp_path / "run")) == source_of(str(tmp_path / "run" / "model.safetensors")) == source
    picture = Image.open(tree / "train" / "red" / "00.png")
    assert torch.equal(made.transform(picture), again.transform(picture))
    if source.startswith("torchvision"):
        return  # its features hardly differ between inputs as yet: no head on them can be proven
    groups = layout([[0, 2], [1]])
    entry = replace(RECIPES["mos"], recipe=changed(RECIPES["mos"].recipe, SHORT))
    recipes.run(again, "mos", entry, Setting(source, open_training(str(tree), classifier=again), str(tmp_path / "run"), groups), tmp_path / "mos")
    grouped = Classifier.load(str(tmp_path / "mos"))
    assert grouped.groups is not None and torch.equal(grouped.groups, groups)
    assert torch.equal(logits(grouped), logits(again)) and logits(grouped).shape == (3, 5)


def test_half_and_preprocess_are_kept(tree: Path, tmp_path: Path) -> None:
    data, source = open_training(str(tree)), "timm:test_resnet"
    entry = replace(RECIPES["cross-entropy"], recipe=changed(RECIPES["cross-entropy"].recipe, SHORT))
    made = fresh(source, 3, preprocess="resize=40,crop=36,mean=0.4,std=0.2")
    recipes.run(made, "cross-entropy", entry, Setting(source, data, half=True), tmp_path)
    assert {value.dtype for value in weights(tmp_path).values() if value.is_floating_point()} == {torch.float16}
    again = Classifier.load(str(tmp_path))
    assert again.dtype == torch.float32 and again.transform == Preprocess(40, 36, (0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    assert torch.allclose(logits(made), logits(again), atol=0.02)


def test_our_architectures_keep_a_preprocessing_and_refuse_other_sizes(tree: Path, tmp_path: Path) -> None:
    made = fresh("resnet", 3, preprocess="resize=40,crop=32,mean=0.4,std=0.2")
    recipes.run(
        made, "ema", replace(RECIPES["ema"], recipe=changed(RECIPES["ema"].recipe, SHORT)), Setting("resnet", open_training(str(tree))), tmp_path
    )
    assert Classifier.load(str(tmp_path)).transform == made.transform
    with pytest.raises(InputError, match="32 x 32 pixels, and --preprocess makes them 64 wide"):
        fresh("vit", 3, preprocess="resize=64,crop=64")


def test_random_parts_have_the_size_that_preprocessing_makes(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, call = set(), Normalize.__call__

    def heard(self: Normalize, images: Any) -> Tensor:
        if isinstance(images, Tensor) and images.ndim == 4:
            sizes.add(tuple(images.shape[2:]))
        return call(self, images)

    monkeypatch.setattr(Normalize, "__call__", heard)
    made = fresh("timm:test_resnet", 3, preprocess="resize=40,crop=36")
    entry = replace(RECIPES["cross-entropy"], recipe=changed(RECIPES["cross-entropy"].recipe, SHORT))
    recipes.run(made, "cross-entropy", entry, Setting("timm:test_resnet", open_training(str(tree))), tmp_path)
    assert sizes == {(36, 36)}


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_another_number_of_logits_keeps_the_widths(architecture: str, tmp_path: Path) -> None:
    # at most 200 logits and more are of unlike widths
    small, large = fresh(architecture, 198), fresh(architecture, 210)
    from farfield.classifier.surgery import new_head

    new_head(small, 198, layout([range(100), range(100, 150), range(150, 198)]))
    new_head(large, 5)
    for made in (small, large):
        save(made, tmp_path / "model.safetensors", architecture, {})
        again = Classifier.load(str(tmp_path))
        assert torch.allclose(logits(made), logits(again), atol=1e-4) and again.classes == made.classes


def test_data_of_other_classes_get_a_new_head(runs: Path, tmp_path: Path) -> None:
    draw(tmp_path / "four", dict.fromkeys("wxyz", (10, 20, 30)), 3)
    start = Classifier.load(str(runs / "resnet"))
    data = open_training(str(tmp_path / "four"), classifier=start)
    assert (data.classes, data.labels) == (4, ("w", "x", "y", "z"))
    entry = replace(RECIPES["outlier-exposure"], recipe=changed(RECIPES["outlier-exposure"].recipe, SHORT))
    recipes.run(start, "outlier-exposure", entry, Setting("resnet", data, str(runs / "resnet")), tmp_path / "run")
    again = Classifier.load(str(tmp_path / "run"))
    assert (again.classes, again.labels) == (4, ("w", "x", "y", "z"))


def test_what_is_trained_is_not_made_from_a_trained_model() -> None:
    for source in ("glyphs-200-resnet", "resnt", "runs/one"):
        with pytest.raises(InputError, match="cannot be trained from random weights"):
            fresh(source, 3)
    one, two, other = (fresh("timm:test_resnet", 3, seed=seed).module.state_dict() for seed in (0, 0, 1))
    assert same(one, two) and not same(one, other)
    assert float(one["fc.weight"].abs().sum()) > 0


@pytest.mark.parametrize("source", ["runs/one", "/tmp", "resnet", "x.safetensors", 3, None])
def test_a_file_names_a_source_that_can_build_it(source: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors", {"farfield": json.dumps({"source": source, "classes": 3})})
    with pytest.raises(InputError, match="broken header"):
        Classifier.load(str(tmp_path))


# --- what is trained ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["resnet", "bit", "vit", "timm:test_resnet", "torchvision:shufflenet_v2_x0_5"])
def test_layers_that_are_not_trained_do_not_change(source: str, tmp_path: Path) -> None:
    classifier = fresh(source, 3)

    def trained(layers: str) -> set[str]:
        train_only(classifier, layers)
        return {name for name, value in classifier.module.named_parameters() if value.requires_grad}

    names = [name for name, _ in classifier.module.named_parameters()]
    blocks = classifier.blocks
    head = trained("head")
    assert len(head) == 2 and head == {names[-2], names[-1]}
    assert trained("all") == set(names)
    before = head
    for n in range(1, len(blocks) + 1):
        now = trained(str(n))
        assert before <= now and all(name in now for name in names if name.startswith(f"{blocks[-n]}."))
        assert all(name not in now for block in blocks[: -n or None] for name in names if name.startswith(f"{block}."))
        before = now
    with pytest.raises(InputError, match=rf"has {len(blocks)} blocks .*; got layers={len(blocks) + 1}"):
        train_only(classifier, str(len(blocks) + 1))


def test_frozen_blocks_keep_their_weights_and_statistics(tree: Path, runs: Path, tmp_path: Path) -> None:
    start = Classifier.load(str(runs / "resnet"))
    before = {key: value.clone() for key, value in start.module.state_dict().items()}
    entry = replace(RECIPES["cross-entropy"], recipe=changed(RECIPES["cross-entropy"].recipe, {**SHORT, "layers": "1"}))
    recipes.run(start, "cross-entropy", entry, Setting("resnet", open_training(str(tree), classifier=start), str(runs / "resnet")), tmp_path)
    after = start.module.state_dict()
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved and all(key.startswith(("layer4.", "fc.")) for key in moved)
    assert any("running_mean" in key for key in moved)
    assert all(p.requires_grad for p in start.module.parameters())
    assert not start.module.training


def test_mos_on_features_is_mos_through_the_frozen_network(tree: Path, runs: Path, tmp_path: Path) -> None:
    start, groups = str(runs / "bit"), layout([[1], [0, 2]])
    entry = replace(RECIPES["mos"], recipe=changed(RECIPES["mos"].recipe, {**SHORT, "steps": 4, "lr": 0.1}))
    stored = Classifier.load(start)
    recipes.run(stored, "mos", entry, Setting("bit", open_training(str(tree), classifier=stored), start, groups), tmp_path / "features")
    before, after = weights(runs / "bit"), weights(tmp_path / "features")
    assert {key for key in before if not torch.equal(before[key], after.get(key, before[key]))} <= {"head.fc.weight", "head.fc.bias"}
    assert float(after["head.fc.weight"].abs().sum()) > 0
    # `flip` of mirror pictures is no change, and makes it look at pictures at each step
    mirrored = Images("m", torch.randint(256, (8, 3, 32, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3)
    mirrored = replace(mirrored, images=torch.cat([mirrored.images, mirrored.images.flip(3)], 3))
    heads = []
    for augment in ((), ("flip",)):
        one = Classifier.load(start)
        some = replace(entry, recipe=replace(entry.recipe, augment=augment))
        recipes.run(one, "mos", some, Setting("bit", TrainingData(mirrored, 3), start, groups), tmp_path / f"looks{len(augment)}")
        heads.append(one.head)
    assert heads[0] is not None and heads[1] is not None
    assert torch.allclose(heads[0].weight, heads[1].weight, atol=1e-4) and float(heads[0].weight.abs().max()) > 0.01


@pytest.mark.filterwarnings("ignore:.*precision:UserWarning")
def test_bf16_runs_and_differs(tree: Path, tmp_path: Path) -> None:
    ran("resnet", "sft", open_training(str(tree)), tmp_path / "full")
    ran("resnet", "sft", open_training(str(tree)), tmp_path / "mixed", precision="bf16")
    one, two = weights(tmp_path / "full"), weights(tmp_path / "mixed")
    assert not same(one, two) and {v.dtype for v in two.values()} == {v.dtype for v in one.values()}
    assert all(torch.allclose(one[key], two[key], atol=0.05) for key in one)


def test_dropout_goes_where_there_is_some() -> None:
    module = nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2))
    set_dropout(module, 0.3)
    assert module[0].p == 0.3
    with pytest.warns(FarfieldWarning, match=r"no dropout layers, so dropout=0\.3 does nothing"):
        set_dropout(nn.Linear(2, 2), 0.3)


def test_a_group_head_needs_all_classes(tree: Path, runs: Path, tmp_path: Path) -> None:
    entry = replace(RECIPES["mos"], recipe=changed(RECIPES["mos"].recipe, SHORT))
    with pytest.raises(InputError, match="The groups have 2 classes and the data have 3"):
        recipes.run(Classifier.load(str(runs / "bit")), "mos", entry, Setting("bit", open_training(str(tree)), groups=layout([[0], [1]])), tmp_path)


# --- pictures -----------------------------------------------------------------------------------------------------------------------------


def rand_picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def timm_transform() -> Callable[[Any], Any]:
    return fresh("timm:test_resnet", 3).transform


TRANSFORMS: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "normalize": lambda: Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), size=32),
    "preprocess": lambda: Preprocess(40, 32, interpolation="bicubic"),
    "timm": timm_transform,
    "torchvision": lambda: FromPictures(ResNet18_Weights.IMAGENET1K_V1.transforms()),
    "compose": lambda: FromPictures(transforms.Compose([transforms.Resize((24, 24)), transforms.ToTensor()])),
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_pictures_as_in_evaluation_are_the_transform_s(kind: str) -> None:
    transform = TRANSFORMS[kind]()
    normalize = normalization(transform)
    if kind == "torchvision":
        assert (normalize.mean, normalize.std) == (pytest.approx((0.485, 0.456, 0.406), abs=1e-5), pytest.approx((0.229, 0.224, 0.225), abs=1e-5))
    if kind == "compose":
        assert (normalize.mean, normalize.std) == (pytest.approx((0, 0, 0), abs=1e-6), pytest.approx((1, 1, 1), abs=1e-6))
    pictures = [(rand_picture(50, 41), 1), (rand_picture(64, 64), 0)]
    views, labels = Views(pictures, transform, normalize, 32).batch([0, 1])
    assert views.dtype == torch.uint8 and labels.tolist() == [1, 0]
    for view, (picture, _) in zip(views, pictures, strict=True):
        assert (normalize(view) - transform(picture)).abs().max() < 0.51 / 255 / min(normalize.std)
        if kind != "torchvision":  # which resizes tensors of whole levels
            assert (normalize(view) - transform(picture)).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (transforms.Compose([transforms.ToTensor(), lambda x: x**2]), "more than resize and normalise"),
        (transforms.Compose([transforms.Pad(4), transforms.ToTensor()]), "more than resize and normalise"),
        (transforms.Compose([transforms.Grayscale(), transforms.ToTensor()]), "more than resize and normalise"),
        (transforms.Compose([transforms.ToTensor(), lambda x: 1 - x]), "more than resize and normalise"),
        (lambda _: torch.zeros(3, 8, 8), "more than resize and normalise"),
        (lambda _: {"pixels": torch.zeros(3, 8, 8)}, "fails on a plain RGB picture"),
        (lambda picture: picture.nothing, "fails on a plain RGB picture"),
    ],
)
def test_transforms_that_do_more_are_refused(transform: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        normalization(transform, "mine")


def test_a_transform_that_augments_is_refused() -> None:
    jitter = transforms.Compose([transforms.ColorJitter(brightness=0.8), transforms.ToTensor()])
    torch.manual_seed(0)
    with pytest.raises(InputError, match="does more than resize and normalise"):
        normalization(jitter, "mine")


def test_random_parts_belong_to_the_sample_and_the_step() -> None:
    from farfield.training.pictures import crop

    pictures = [(rand_picture(40, 30), i) for i in range(4)]
    views = Views(pictures, Normalize((0.5,) * 3, (0.5,) * 3, size=16), Normalize((0.5,) * 3, (0.5,) * 3), 16, crop)

    def drawn(rows: list[int], step: int) -> Tensor:
        return views.drawn(rows, Draws(0, step, torch.tensor(rows)))[0]

    assert drawn([0, 1], 3).shape == (2, 3, 16, 16)
    assert torch.equal(drawn([0, 1], 3).flip(0), drawn([1, 0], 3))
    assert not torch.equal(drawn([0], 3), drawn([0], 4)) and not torch.equal(drawn([0], 3)[0], drawn([1], 3)[0])


def test_pictures_that_cannot_be_read_are_counted_and_named(tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tree, folder)
    (folder / "train" / "green" / "02.png").write_bytes(b"no picture")
    (folder / "train" / "red" / "05.png").write_bytes(b"")  # the last: the first stands in
    with pytest.warns(FarfieldWarning, match=r"2 training pictures cannot be read, .*(green|red)"):
        _, history = ran("resnet", "cross-entropy", open_training(str(folder)), tmp_path / "run", steps=0, epochs=2, batch_size=18)
    assert [record["unreadable"] for record in history] == [2, 2]
    for workers in (0, 1):
        with pytest.raises(InputError, match=r"(green/02|red/05)\.png cannot be read: [^\n]*$") as raised:
            entry = replace(RECIPES["ema"], recipe=changed(RECIPES["ema"].recipe, {"steps": 5, "batch_size": 18}))
            setting = Setting("resnet", open_training(str(folder)), strict=True, workers=workers)
            recipes.run(fresh("resnet", 3), "ema", entry, setting, tmp_path / f"strict{workers}")
        assert "Traceback" not in str(raised.value)
    for file in (folder / "train").rglob("*.png"):
        file.write_bytes(b"none")
    with pytest.raises(InputError, match="None of the 18 pictures can be read"):
        ran("resnet", "ema", open_training(str(folder)), tmp_path / "none")


def test_pictures_in_memory_are_preprocessed_as_in_evaluation(tmp_path: Path) -> None:
    pictures = Images("some", torch.randint(256, (6, 3, 32, 32), dtype=torch.uint8), torch.arange(6) % 3)
    made = fresh("resnet", 3, preprocess="resize=48,crop=32,mean=0.5,std=0.5")
    seen = []
    made.module.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
    entry = replace(RECIPES["cross-entropy"], recipe=changed(RECIPES["cross-entropy"].recipe, {"steps": 1, "batch_size": 6, "augment": "none"}))
    recipes.run(made, "cross-entropy", entry, Setting("resnet", TrainingData(pictures, 3)), tmp_path)
    wanted = torch.stack([made.transform(picture) for picture in pictures.images])
    shown = next(batch for batch in seen if len(batch) == 6)
    assert torch.cdist(shown.flatten(1), wanted.flatten(1)).min(1).values.max() < 1e-2


# --- data ---------------------------------------------------------------------------------------------------------------------------------


def test_a_folder_may_have_both_parts(tree: Path) -> None:
    data = open_training(str(tree))
    assert (len(data.train), data.classes, data.labels, len(data.val)) == (18, 3, ("blue", "green", "red"), 9)
    assert data.told["data"] == str(tree)
    alone = open_training(str(tree / "train"))
    assert alone.val is None and len(alone.train) == 18
    assert len(open_training(str(tree / "train"), str(tree / "val")).val) == 9
    some = open_training(str(tree), limit=4)
    assert (len(some.train), len(some.val), some.classes) == (4, 4, 3)


def test_labels_are_in_the_order_of_the_model(tree: Path, tmp_path: Path) -> None:
    classifier = fresh("resnet", 5)
    classifier.labels = ("red", "white", "green", "black", "blue")
    data = open_training(str(tree), classifier=classifier)
    assert (data.classes, data.labels) == (5, classifier.labels)
    assert data.train.labels.unique().tolist() == [0, 2, 4] and data.train.labels[0] == 4
    assert data.val.labels[0] == 4
    classifier.labels = None  # five logits without names are not these three folders
    assert open_training(str(tree), classifier=classifier).classes == 3
    (tmp_path / "map.txt").write_text("red\ngreen\nblue\n")
    mapped = open_training(str(tree), class_map=tmp_path / "map.txt")
    assert (mapped.labels, int(mapped.train.labels[0]), int(mapped.val.labels[0])) == (("red", "green", "blue"), 2, 2)
    assert mapped.told["class_map"] == str(tmp_path / "map.txt")
    with pytest.warns(FarfieldWarning, match="other names than the model's own labels"):
        classifier = fresh("resnet", 3)
        classifier.labels = ("x", "y", "z")
        assert open_training(str(tree), classifier=classifier).labels == ("x", "y", "z")


def test_a_data_set_of_ones_own_has_its_classes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "recipe_data.py").write_text(
        "import torch\n"
        "class Own(list):\n    pass\n"
        "def make(labels, **more):\n"
        "    made = Own((torch.full((3, 32, 32), 20 * y, dtype=torch.uint8), y) for y in labels)\n"
        "    for name, value in more.items():\n        setattr(made, name, value)\n"
        "    return made\n"
        "def named(): return make([0, 1, 2, 1], classes=['a', 'b', 'c', 'd'])\n"
        "def told(): return make([0, 1, 2, 1], targets=[0, 1, 2, 1])\n"
        "def untold(): return make([0, 1, 2, 1])\n"
        "def wrong(): return make([0, 1, -1], targets=[0, 1, -1], classes=['a', 'b'])\n"
        "def high(): return make([0, 1, 7], classes=['a', 'b'])\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    named, told = open_training("python:recipe_data:named"), open_training("python:recipe_data:told")
    assert (named.classes, named.labels, told.classes, told.labels) == (4, ("a", "b", "c", "d"), 3, None)
    with pytest.raises(InputError, match="untold has no classes: give a folder"):
        open_training("python:recipe_data:untold")
    with pytest.raises(InputError, match=r"Item 2 of the data set of .*wrong has the label -1, and the classes are 0 to 1"):
        open_training("python:recipe_data:wrong")
    with pytest.raises(InputError, match="Item 2 of the training set has the label 7, and the model has 2 classes"):
        ran("resnet", "cross-entropy", open_training("python:recipe_data:high"), tmp_path / "high", batch_size=3)
    made, _ = ran("resnet", "augrevise", told, tmp_path / "run")
    assert made.labels is None and Classifier.load(str(tmp_path / "run")).labels is None


def test_a_suite_says_what_may_be_done_to_its_pictures(tmp_path: Path) -> None:
    from farfield.recipes.run import augmentations, fitting
    from farfield.training.operations import TRIVIAL, allowed

    data = open_training("glyphs-200", limit=400)
    assert (len(data.train), len(data.val), data.classes, data.drawn) == (400, 400, 200, None)
    assert data.augmentations is not None and data.taxonomy is not None and len(data.labels or ()) == 200
    fitted = fitting(RECIPES["v2"].recipe, data.augmentations)
    assert fitted.augment == ("trivial", "erase")
    known = allowed(data.augmentations)
    assert set(known) < set(TRIVIAL) | {"Identity"} or len(known) < len(TRIVIAL)
    used: list[dict[str, float]] = []
    module = sys.modules["farfield.recipes.run"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "trivial", lambda pictures, draws, operations: used.append(operations) or pictures)
        augment, erased = augmentations(fitted, data.augmentations)
        assert augment is not None and erased is not None
        augment(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), Draws(0, 0, torch.arange(2)))
    assert used == [known]
    _, history = ran("resnet", "augmix", data, tmp_path, batch_size=32)
    assert json.loads((tmp_path / "recipe.json").read_text())["recipe"]["augment"] == [] and np.isfinite(history[0]["loss"])


def test_data_that_cannot_be_trained_on(tree: Path, runs: Path, tmp_path: Path) -> None:
    resnet = Classifier.load(str(runs / "resnet"))
    draw(tmp_path / "one", {"only": (1, 2, 3)}, 2)
    draw(tmp_path / "other", {"cyan": (1, 2, 3), "pink": (1, 2, 3), "grey": (1, 2, 3)}, 2)
    draw(tmp_path / "partly", {"blue": (1, 2, 3), "grean": (1, 2, 3)}, 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("train/blue/00.png 0\ntrain/red/00.png 7\n")
    (tmp_path / "bare.txt").write_text("train/blue/00.png\ntrain/red/00.png\n")
    (tmp_path / "map.json").write_text('{"blue": 0, "green": 9, "red": 2}')
    (tmp_path / "lacks.json").write_text('{"blue": 0, "green": 1}')

    for arguments, more, message in (
        ((str(tmp_path / "one"),), {}, "one has one class only, 'only'"),
        ((str(tmp_path / "one"),), {"classifier": resnet}, "has one class only"),
        ((str(tmp_path / "empty"),), {}, "has no images"),
        ((str(tmp_path / "nowhere"),), {}, "There is no file or folder"),
        ((str(tree / "train" / "red"),), {}, "red has no classes: give a folder with a sub-folder for each"),
        ((str(tmp_path / "bare.txt"),), {"root": tree}, "has no classes"),
        ((str(tmp_path / "list.txt"),), {"root": tree, "classifier": resnet}, r"red/00\.png of .* has label 7, and the model's classes are 0 to 2"),
        ((str(tree), str(tmp_path / "other")), {}, "The folder 'cyan' of .* is no class of the training data"),
        ((str(tree), str(tmp_path / "partly")), {}, "The folder 'grean' of .*did you mean 'green'"),
        ((str(tree), str(tmp_path / "other")), {"classifier": resnet}, "The folder 'cyan' of .* is no class of the training data"),
        ((str(tree),), {"class_map": tmp_path / "map.json", "classifier": resnet}, "as class 9, and the model's own labels have it as class 1"),
        ((str(tree),), {"class_map": tmp_path / "lacks.json"}, "The class map has no class 'red'"),
        (("glyphs-200",), {"root": tree}, "--root is where data lie, and glyphs-200 is drawn"),
    ):
        with pytest.raises(InputError, match=message):
            open_training(*arguments, **more)


# --- the last layer -----------------------------------------------------------------------------------------------------------------------


def test_stored_outputs_train_the_head_they_are_of(tree: Path, runs: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(str(runs / "resnet"))
    data = open_training(str(tree), classifier=classifier)
    store = ff.collect(classifier, data.train, out=tmp_path / "store")
    found = recipes.featured(str(store.folder), classifier, str(tree / "val"))
    assert (len(found.train), found.classes, len(found.val)) == (18, 3, 9)
    setting = Setting("resnet", found, str(runs / "resnet"))
    reached = recipes.augdelete(classifier, setting, tmp_path / "run", fraction=0.5)
    assert reached["converged"] and reached["samples"] == 9
    assert torch.equal(logits(Classifier.load(str(tmp_path / "run"))), logits(classifier))
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["fraction"] == 0.5
    # the same from the pictures
    again = Classifier.load(str(runs / "resnet"))
    recipes.augdelete(again, Setting("resnet", data, str(runs / "resnet")), tmp_path / "pictures", fraction=0.5)
    assert again.head is not None and classifier.head is not None
    assert torch.allclose(again.head.weight, classifier.head.weight, atol=1e-5)
    with pytest.raises(InputError, match="what another model than"):
        recipes.featured(found.told["features"], Classifier.load(str(runs / "bit")))
    with pytest.raises(InputError, match="is pictures, not what a classifier said"):
        recipes.featured(str(tree / "train"), classifier)
    with pytest.raises(InputError, match="needs `fraction` above 0"):
        recipes.augdelete(Classifier.load(str(runs / "resnet")), setting, tmp_path / "none", fraction=0.0)
    assert not (tmp_path / "none" / "model.safetensors").exists()
    kept = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="holds a run of another recipe"):
        recipes.augdelete(Classifier.load(str(runs / "resnet")), setting, tmp_path / "run", fraction=1.0)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == kept


def test_augdelete_is_checked_before_training(tree: Path, tmp_path: Path) -> None:
    for penalty in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="AugDelete needs a penalty above 0"):
            recipes.run(fresh("resnet", 3), "augrevise", RECIPES["augrevise"], Setting("resnet", open_training(str(tree)), penalty=penalty), tmp_path)
    with pytest.raises(InputError, match=r"has no training picture .* and AugDelete, which follows in the end"):
        ran("resnet", "augrevise", open_training(str(tree), limit=2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_outliers_of_ones_own(tree: Path, runs: Path, tmp_path: Path) -> None:
    classifier = Classifier.load(str(runs / "resnet"))
    found = recipes.outlier_pictures(str(tree / "val"), classifier, 5)
    assert found.shape == (5, 3, 32, 32) and found.dtype == torch.uint8
    setting = Setting("resnet", open_training(str(tree), classifier=classifier), str(runs / "resnet"), outliers=found)
    entry = replace(RECIPES["outlier-exposure"], recipe=changed(RECIPES["outlier-exposure"].recipe, SHORT))
    recipes.run(classifier, "outlier-exposure", entry, setting, tmp_path / "own")
    made = Classifier.load(str(runs / "resnet"))
    recipes.run(made, "outlier-exposure", entry, replace(setting, outliers=None), tmp_path / "made")
    assert not torch.equal(logits(made), logits(classifier))


# --- settings -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rate": "0.1"}, "Neither a recipe nor cross-entropy has a setting 'rate'"),
        ({"lrr": "0.1"}, "did you mean 'lr'"),
        ({"options": "x"}, "has a setting 'options'"),
        ({"lr": "fast"}, "The setting lr is a number; got 'fast'"),
        ({"lr": "nan"}, "cannot have lr=nan"),
        ({"lr": "-1"}, r"cannot have lr=-1\.0"),
        ({"epochs": "1.5"}, "The setting epochs is a whole number"),
        ({"nesterov": "yes"}, "The setting nesterov is true or false"),
        ({"drops": "0.3,0.6"}, "The setting drops is several as a/b/c, or none"),
        ({"augment": "crop/turn"}, "cannot augment by 'turn'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"tau": "0.1"}, "Neither a recipe nor cross-entropy has a setting 'tau'"),
        ({"objective": "logitnrm"}, "There is no objective 'logitnrm'; did you mean 'logitnorm'"),
        ({"layers": "0"}, "cannot have layers='0'"),
    ],
)
def test_settings_that_there_are_not(values: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        changed(RECIPES["cross-entropy"].recipe, values)


def test_settings_are_of_the_kind_they_replace() -> None:
    v1 = RECIPES["cross-entropy"].recipe
    made = changed(
        v1, {"nesterov": "TRUE", "augment": "none", "drops": "0.5/0.75", "epochs": "3", "layers": "2", "objective": "logitnorm", "tau": "1"}
    )
    assert (made.nesterov, made.augment, made.drops, made.epochs, made.layers, made.options) == (True, (), (0.5, 0.75), 3, "2", {"tau": 1.0})
    assert changed(RECIPES["sft"].recipe, {"sizes": "2/4"}).options["sizes"] == (2, 4)
    assert changed(RECIPES["mixup"].recipe, {"objective": "regmixup"}).options == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        "{",
        '{"name": "x"}',
        '{"name": "x", "recipe": []}',
        '{"name": "x", "recipe": {"epoch": 3}}',
        '{"name": "x", "recipe": {"lr": "a"}}',
    ],
)
def test_a_file_that_holds_no_recipe(text: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(text)
    with pytest.raises(InputError, match="holds no recipe"):
        recipes.recipe_of(str(tmp_path / "recipe.json"))
    with pytest.raises(InputError, match="holds no recipe"):
        recipes.recipe_of(str(tmp_path / "nowhere.json"))
