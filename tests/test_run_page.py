"""The page of a training run: what it says is what the run left, whatever things are called."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from farfield.errors import InputError
from farfield.report.run import content, write_run_page
from farfield.training import Recipe
from pages import Browser

RECIPE = Recipe(objective="regmixup", options={"alpha": 10.0}, augment=("crop", "flip"), epochs=12, lr=0.1, sharpness="sam-norm", seed=3)
TOLD = {"name": "regmixup", "model": "timm:resnet18", "start": None, "data": "photos/train", "val": "photos/val", "limit": None, "class_map": None}
EPOCHS = [
    {"epoch": e, "loss": 2.3 * 0.8**e, "accuracy": 1 - 0.9**e, "lr": 0.1 * (12 - e) / 12, "seconds": 10.25, **({"unreadable": e} if e < 4 else {})}
    for e in range(1, 13)
]
AFTER = {"accuracy": 0.8125, "interval": [0.79, 0.835], "n": 1200}
ACCURACY = {"before": {"accuracy": 0.7, "interval": [0.67, 0.73], "n": 1200}, "after": AFTER}
REACHED = {
    "before": 1.25, "after": 0.75, "gradient": 1.2e-7, "distance": 1e-4, "converged": True, "iterations": 21, "passes": 25, "samples": 1281,
    "accuracy_before": 0.8, "accuracy_after": 0.85, "seconds": 1.5,
}  # fmt: skip
AUGDELETE = {
    "name": "augdelete", "model": "timm:resnet50", "start": "timm:resnet50", "features": "store/a b", "val": None, "limit": None, "fraction": 0.2,
    "penalty": 5e-4, "seed": 0, "reached": REACHED,
}  # fmt: skip
HOSTILE = "</script><!--{{style}}<img src=x onerror=window.hacked=1>'\"`$(rm) \u2028\ud800"
DRAWN = (
    "return document.querySelectorAll('.frame').length === 3 && [...document.querySelectorAll('.frame')].every((frame) => frame.querySelector('svg'))"
)


def left(folder: Path, told: Any = None, epochs: Any = EPOCHS, accuracy: Any = ACCURACY) -> Path:
    """A run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.json").write_text(json.dumps({**TOLD, "recipe": asdict(RECIPE)} if told is None else told))
    if epochs is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    if accuracy is not None:
        (folder / "accuracy.json").write_text(json.dumps(accuracy))
    return folder


def said(folder: Path) -> dict[str, Any]:
    """The content in a page that was written."""
    text = write_run_page(folder).read_text("utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
    assert found
    value: dict[str, Any] = json.loads(found[1])
    return value


def test_the_page_says_what_the_run_left(tmp_path: Path) -> None:
    value = said(left(tmp_path / "run"))
    assert value["title"] == "regmixup: timm:resnet18" and value["start"] == "trained from random weights"
    assert value["command"] == f"farfield train --recipe {tmp_path}/run/recipe.json --out NEW"
    settings, rest = dict(value["settings"]), dict(value["rest"])
    for name, shown in (("training data", "photos/train"), ("validation data", "photos/val"), ("starts from", "random weights"), ("alpha", "10"),
                        ("augment", "crop/flip"), ("epochs", "12"), ("lr", "0.1"), ("sharpness", "sam-norm"), ("seed", "3")):  # fmt: skip
        assert settings[name] == shown, name
    assert {"steps", "clip", "dropout"} <= rest.keys() and not settings.keys() & rest.keys()
    assert set(asdict(RECIPE)) - {"options"} <= settings.keys() | rest.keys()
    assert value["epochs"] == [{"unreadable": 0, **epoch} for epoch in EPOCHS]
    assert [(row["what"], row["figure"], row["n"]) for row in value["accuracy"]] == [
        ("before", [0.7, 0.67, 0.73], 1200), ("after", [0.8125, 0.79, 0.835], 1200),
    ]  # fmt: skip
    assert value["summary"].startswith("12 epochs, in 2 min 3 s. In the last, loss 0.1581") and "71.8 %" in value["summary"]
    assert "as they were shown" in value["summary"] and "3 pictures in an epoch could not be read" in value["summary"]


def test_a_run_that_was_stopped_says_so(tmp_path: Path) -> None:
    value = said(left(tmp_path, epochs=EPOCHS[:1], accuracy=None))
    assert value["summary"].startswith("1 of 12 epochs so far, in 10.2 s.") and "1 picture in" in value["summary"]
    assert value["accuracy"] == []


def test_a_recipe_of_steps_tells_steps(tmp_path: Path) -> None:
    value = said(left(tmp_path, {**TOLD, "recipe": asdict(Recipe(steps=50, epochs=90))}, EPOCHS[:1], {"before": None, "after": AFTER}))
    assert dict(value["settings"])["steps"] == "50" and dict(value["rest"])["epochs"] == "90"
    assert value["summary"].startswith("1 epoch, in") and [row["what"] for row in value["accuracy"]] == ["after"]


def test_the_command_starts_from_the_same_model_and_data(tmp_path: Path) -> None:
    recipe = asdict(Recipe(layers="head"))
    groups = [[0, 1], [2, 3, 4]]
    told = {**TOLD, "start": "runs/my run", "limit": 500, "class_map": "order.json", "groups": groups, "recipe": recipe}
    value = said(left(tmp_path / "a b", told))
    assert shlex.split(value["command"]) == [
        "farfield", "finetune", f"{tmp_path}/a b/recipe.json", "--model", "runs/my run", "--class-map", "order.json", "--limit", "500", "--out", "NEW",
    ]  # fmt: skip
    assert value["start"] == "trained further from runs/my run"
    settings = dict(value["settings"])
    assert settings["groups of classes"] == "2, of 2 to 3 classes" and settings["pictures at most"] == "500" and settings["layers"] == "head"


def test_augdelete_alone_has_no_epochs_and_says_what_it_reached(tmp_path: Path) -> None:
    value = said(left(tmp_path, AUGDELETE, None, ACCURACY))
    assert value["epochs"] == [] and value["title"] == "augdelete: timm:resnet50"
    reached = dict(value["reached"])
    assert (reached["objective before"], reached["objective after"], reached["converged"]) == ("1.25", "0.75", "true")
    assert reached["accuracy on these samples after, %"] == "85.0" and reached["samples"] == "1281" and len(reached) == len(REACHED)
    assert value["command"] == (
        "farfield finetune augdelete --model timm:resnet50 --features 'store/a b' --fraction 0.2 --penalty 0.0005 --seed 0 --out NEW"
    )
    assert dict(value["settings"])["fraction"] == "0.2"


def broken(name: str, text: str | None) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        if text is not None:
            (folder / name).write_text(text)

    return change


def told(**changes: Any) -> Callable[[Path], None]:
    value = {key: one for key, one in {**TOLD, "recipe": asdict(RECIPE), **changes}.items() if one != "gone"}
    return broken("recipe.json", json.dumps(value))


def lines(*records: Any) -> Callable[[Path], None]:
    return broken("metrics.jsonl", "".join(f"{json.dumps(record)}\n" for record in records))


def figures(value: Any) -> Callable[[Path], None]:
    return broken("accuracy.json", json.dumps(value))


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (broken("recipe.json", None), "recipe.json", "No such file"),
        (broken("recipe.json", "{"), "recipe.json", "Expecting property name"),
        (broken("recipe.json", "[1]"), "recipe.json", "no JSON object"),
        (broken("recipe.json", "[" * 100_000), "recipe.json", "recursion"),
        (told(name="gone"), "recipe.json", "no name"),
        (told(model=3), "recipe.json", "no model"),
        (told(recipe="gone"), "recipe.json", "recipe"),
        (told(recipe={"lr": -1}), "recipe.json", "lr=-1"),
        (told(recipe={"lrr": 1}), "recipe.json", "lrr"),
        (told(recipe={"options": 3}), "recipe.json", "options are no JSON object"),
        (told(recipe=[1]), "recipe.json", "list"),
        (told(name="augdelete", recipe="gone"), "recipe.json", "what was reached"),
        (broken("metrics.jsonl", None), "metrics.jsonl", "No such file"),
        (broken("metrics.jsonl", "\n"), "metrics.jsonl", "no epoch"),
        (broken("metrics.jsonl", json.dumps(EPOCHS[0]) + "\n{"), "metrics.jsonl, line 2,", "Expecting property name"),
        (lines(EPOCHS[0], 3), "metrics.jsonl, line 2,", "no JSON object"),
        (lines({"epoch": 1}), "metrics.jsonl, line 1,", "no loss"),
        (lines({**EPOCHS[0], "loss": float("nan")}), "metrics.jsonl, line 1,", "loss is no number"),
        (lines({**EPOCHS[0], "seconds": "x"}), "metrics.jsonl, line 1,", "seconds is no number"),
        (lines({**EPOCHS[0], "unreadable": []}), "metrics.jsonl, line 1,", "unreadable is no number"),
        (broken("accuracy.json", ""), "accuracy.json", "Expecting value"),
        (figures({"before": None}), "accuracy.json", "after has no accuracy"),
        (figures({"after": {**AFTER, "accuracy": 81.2}}), "accuracy.json", "after is no accuracy in [0, 1]"),
        (figures({"after": {**AFTER, "interval": [0.1]}}), "accuracy.json", "after is no accuracy"),
        (figures({"after": {**AFTER, "n": 0}}), "accuracy.json", "after is no accuracy"),
        (figures({"before": {"accuracy": 1}, "after": AFTER}), "accuracy.json", "before has no accuracy"),
    ],
)  # fmt: skip
def test_what_is_missing_or_broken_is_told(tmp_path: Path, change: Callable[[Path], None], where: str, what: str) -> None:
    folder = left(tmp_path / "run")
    change(folder)
    with pytest.raises(InputError) as raised:
        write_run_page(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder / where} cannot be read") and what in message and message.endswith(".") and "\n" not in message
    assert not (folder / "run.html").exists()


def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.json cannot be read .* Give the folder of a run"):
        write_run_page(tmp_path / "none")


def hostile(folder: Path) -> Path:
    recipe = {**asdict(RECIPE), "options": {HOSTILE: HOSTILE}}
    return left(folder, dict.fromkeys(TOLD, HOSTILE) | {"limit": None, "recipe": recipe})


def test_no_text_ends_the_element_it_is_in_and_nothing_is_loaded(tmp_path: Path) -> None:
    found: list[str] = []
    scripts: list[dict[str, str | None]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(str(value) for name, value in attrs if name in ("src", "href", "srcset", "action", "data"))
            if tag == "script":
                scripts.append(dict(attrs))

    text = write_run_page(hostile(tmp_path)).read_text("utf-8")
    Reader().feed(text)
    assert found == ["data:,"] and len(scripts) == 3
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style and "default-src 'none'" in text
    assert HOSTILE not in text and "{{" not in style
    assert said(tmp_path)["settings"] == content(tmp_path)["settings"]


# In a browser


@pytest.mark.parametrize("many", [1, 12, 300])
def test_the_curves_are_drawn(browser: Browser, tmp_path: Path, many: int) -> None:
    epochs = [{**EPOCHS[e % 12], "epoch": e + 1} for e in range(many)]
    page = write_run_page(left(tmp_path, epochs=epochs))
    browser.open(page)
    browser.wait(DRAWN)
    assert browser.js("return document.title") == "regmixup: timm:resnet18 \u2013 Farfield training run"
    assert [address for address in browser.asked_for() if not address.startswith("data:")] == [page.resolve().as_uri()]
    assert browser.js("return [...document.querySelectorAll('.frame svg')].every((svg) => svg.querySelectorAll('path').length > 3)")
    marks = "return [...document.querySelectorAll('.frame')].map((frame) => frame.querySelectorAll(arguments[0]).length)"
    assert browser.js(marks, ".mark-line path") == [1, 1, 1]
    assert browser.js(marks, ".mark-symbol path[fill^=var]") == ([many] * 3 if many <= 40 else [0, 0, 0])
    rows = browser.table("epochs-table")
    assert len(rows) == many and rows[0] == ["1", "1.84", "10.0", "0.09167", "10.25", "1"]
    browser.js("document.querySelector('.frame').focus()")
    browser.keys("\ue014")
    assert browser.text(".readout") == "Loss in epoch 1: 1.84."
    assert "It is no test accuracy" in browser.text("#curves-box .note")
    assert "70.0" in browser.text("#accuracy") and "79.0 to 83.5" in browser.text("#accuracy")
    browser.press("epochs-table", "loss")
    assert browser.sorts("epochs-table")["loss"] == "ascending"


@pytest.mark.parametrize("make", [left, hostile, lambda folder: left(folder, AUGDELETE, None), lambda folder: left(folder, accuracy=None)])
def test_it_fits_the_window_in_light_and_dark(browser: Browser, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    browser.open(write_run_page(make(tmp_path)))
    browser.js("document.querySelectorAll('details').forEach((box) => { box.open = true })")
    if browser.js("return document.getElementById('curves-box').hidden"):
        assert browser.all(".frame") == []
    else:
        browser.wait(DRAWN)
    assert browser.js("return typeof window.hacked") == "undefined"
    for width, mobile in ((1280, False), (390, True), (320, True)):
        browser.command("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=mobile)
        browser.wait("return window.innerWidth >= arguments[0]", width)
        assert browser.js("return document.documentElement.scrollWidth") <= width
        for scheme in ("light", "dark"):
            browser.media(scheme)
            assert [found for found in browser.contrasts() if found[1] < 4.5] == []


def test_text_is_shown_as_it_is(browser: Browser, tmp_path: Path) -> None:
    browser.open(write_run_page(hostile(tmp_path)))
    shown = browser.text("#title")
    assert "</script><!--{{style}}<img src=x" in shown
    assert "</script>" in browser.text("#command") and "</script>" in browser.text("#ran table")
