"""A diagnosis and a recommendation as Markdown, JSON and on the terminal: every figure, and no text that is obeyed."""

from __future__ import annotations

import base64
import io
import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console, RenderableType

from diagnoses import DETECTORS, FINDINGS, HOSTILE, KINDS, REMEDIES, bare, diagnosis, hostile, recommendation
from farfield.diagnose.examine import shown_picture
from farfield.errors import InputError
from farfield.report import diagnosis as report
from farfield.report import recommendation as ranking
from farfield.report.diagnosis import write_diagnosis
from farfield.report.recommendation import write_recommendation
from farfield.report.terminal import continued, diagnosis_table, recommendation_table


def printed(shown: RenderableType, width: int = 80) -> str:
    console = Console(width=width, file=io.StringIO(), color_system=None)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def flat(text: str) -> str:
    """On one line, without the escapes of Markdown."""
    return re.sub(r"\\(.)", r"\1", " ".join(text.split()))


def share(value: float, interval: Any) -> str:
    return f"{100 * value:.1f} ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"


def gained(value: float, interval: Any) -> str:
    return f"{100 * value:+.1f} ({100 * interval[0]:+.1f} to {100 * interval[1]:+.1f})"


# --- Markdown -----------------------------------------------------------------------------------------------------------------------------


def test_markdown_has_every_finding_with_its_figures() -> None:
    text = flat(report.to_markdown(diagnosis()))
    for one in FINDINGS:
        start = text.index(f"## {one['outcome'].capitalize()} {one['code']}: {one['title']}")
        mine = text[start : text.find(" ## ", start)]
        assert one["said"] in mine and one["how"] in mine and one["source"] in mine and one["do"] in mine and one["command"] in mine
        for name, value in one["values"].items():
            low, high = one["intervals"].get(name, (None, None))
            shown = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
            assert f"| {name} | {shown} | {'' if low is None else f'{low:.4g} to {high:.4g}'} |".replace("  ", " ") in mine.replace("  ", " ")
        assert all(picture["caption"] in mine for picture in one["shown"])
        evidence = one["evidence"]
        if evidence is None or evidence["kind"] == "histogram":
            continue
        for series in evidence["series"]:
            for value, low, high in zip(series["y"], series["low"] or series["y"], series["high"] or series["y"], strict=True):
                assert (f"{value:.4g} ({low:.4g} to {high:.4g})" if series["low"] else f"{value:.4g}") in mine
        assert evidence["x_title"] in mine and evidence["y_title"] in mine and all(str(x) in mine for x in evidence["x"])
        limit = re.findall(r"The limit is ([\d.]+)\.", mine)
        assert limit == ([] if evidence["limit"] is None else [f"{evidence['limit']:.4g}"])


def test_markdown_has_the_findings_in_order_and_counts_them() -> None:
    text = report.to_markdown(diagnosis())
    assert re.findall(r"^## (\w[\w ]*?) [A-Z]\d:", text, re.MULTILINE) == [one["outcome"].capitalize() for one in FINDINGS]
    assert "3 issues, 2 tips, 3 passed, 1 muted, 1 skipped, 1 not applicable." in text
    assert "No check was made." in report.to_markdown(diagnosis(findings=[])) and "1 issue." in report.to_markdown(diagnosis(findings=FINDINGS[:1]))


def test_markdown_has_every_remedy_cheapest_first() -> None:
    text = report.to_markdown(diagnosis())
    part = text[text.index("## Remedies") : text.index("## Which detector")]
    rows = [row.split(" | ")[1] for row in part.splitlines() if row.startswith("| ")][2:]
    assert rows == ["Use knn", "AugDelete", "SFT", "AugRevise"]
    for one in REMEDIES:
        (row,) = [row for row in part.splitlines() if row.startswith(f"| {one['cost']} |")]
        for side in ("before", "after"):
            assert one[side] is None or share(one[side]["auroc"], one[side]["interval"]) in row
        assert one["gain"] is None or gained(one["gain"]["auroc"], one["gain"]["interval"]) in row
        assert one["accuracy_change"] is None or gained(*one["accuracy_change"]) in row
        assert one["said"] in flat(part) and one["note"] in part and one["command"] in part
    words = [row.split(" | ")[-1].rstrip(" |") for row in part.splitlines() if row.startswith("| ")][2:]
    assert words == ["better", "not told apart", "worse", "not measured"]


def test_markdown_has_the_ranking_the_real_sets_and_what_was_run() -> None:
    for text in (report.to_markdown(diagnosis()), ranking.to_markdown(recommendation())):
        for place, one in enumerate(recommendation()["ranked"], 1):
            (row,) = [row for row in text.splitlines() if row.startswith(f"| {place} | {one['detector']} |")]
            cells = [cell.strip() for cell in row.split("|")[1:-1]]
            assert cells[2] == share(one["mean"]["auroc"], one["mean"]["interval"])
            assert cells[3:8] == [share(one["kinds"][kind]["auroc"], one["kinds"][kind]["interval"]) for kind in KINDS]
            assert cells[8] == ("\u2013" if place == 1 else share(one["behind"]["auroc"], one["behind"]["interval"]))
            assert cells[9] == f"{one['failed']} of 17"
            assert cells[10] == {1: "take this", 2: "not told from it", 17: "not recommended", 18: "not recommended"}.get(place, "behind")
            assert all(reason in flat(text) for reason in one["reasons"])
        assert (
            "- mos: n/a. The head has no groups." in text
            and "near (left-out classes, mixup) and far (jigsaw, channels, noise), half each" in flat(text)
        )
        assert "ID accuracy 81.2 (80.3 to 82.1) %." in text
    text = report.to_markdown(diagnosis())
    for row in diagnosis()["real"]:
        assert f"| photos | {row['detector']} | {share(row['auroc'], row['interval'])} | {share(row['fpr'], row['fpr_interval'])} |" in text
    assert "| pictures, noise | 6,800 |" in text and "| seconds | 128.4 |" in text and "| torch | 2.9.0 |" in text and diagnosis()["command"] in text


def test_the_verdict_names_the_best_and_those_not_told_from_it() -> None:
    plain = recommendation()
    assert ranking.verdict(plain) == "Take knn: its mean AUROC on pseudo-OOD is 86.4 (85.5 to 87.4) %. Not told from it is vim."
    assert ranking.verdict({**plain, "tied": ["vim", "gen", "msp"]}).endswith("Not told from it are vim, gen and msp.")
    assert ranking.verdict({**plain, "tied": []}).endswith("Every other detector that can be recommended is behind it.")
    spoken = [{**one, "reasons": ["Bad."]} for one in plain["ranked"]]
    assert ranking.verdict({**plain, "ranked": spoken}).startswith("Something speaks against every detector here; knn, at a mean AUROC of 86.4")


def test_markdown_obeys_no_text() -> None:
    for text in (report.to_markdown(hostile()), ranking.to_markdown(hostile()["recommendation"])):
        assert not re.search("[\x00-\x09\x0b-\x1f\u2028\u202e\ud800]", text)
        prose, fence = [], ""
        for line in text.splitlines():  # what stands between fences is no Markdown
            found = re.match("`{3,}", line)
            if found and not fence:
                fence = found[0]
            elif fence and line == fence:
                fence = ""
            elif not fence:
                prose.append(line)
        assert fence == "" and not [line for line in prose if re.search(r"(?<!\\)(<|`(?!$)|\[|(?<!^)(?<!#)#(?!#| )|&)", line)]
        for line in (line for line in prose if line.startswith("|")):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 4, 5, 8, 13, 14), line
    assert "````sh" in "\n".join(ranking.fenced("a ```` b")) and ranking.fenced("a ```` b")[0] == "`````sh"


# --- files --------------------------------------------------------------------------------------------------------------------------------


def test_files_are_written_and_json_is_the_value(tmp_path: Path) -> None:
    value = diagnosis()
    paths = write_diagnosis(value, tmp_path / "new" / "folder")
    assert [path.name for path in paths] == ["diagnosis.json", "diagnosis.md", "diagnosis.html"]
    assert json.loads(paths[0].read_text("utf-8")) == json.loads(json.dumps(value))
    assert paths[1].read_text("utf-8") == report.to_markdown(value)
    paths = write_recommendation(recommendation(), tmp_path)
    assert [path.name for path in paths] == ["recommendation.json", "recommendation.md", "recommendation.html"]
    assert json.loads(paths[0].read_text("utf-8")) == json.loads(json.dumps(recommendation()))
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "diagnosis.md").mkdir(parents=True)
    with pytest.raises(InputError, match=r"diagnosis.md cannot be written"):
        write_diagnosis(value, tmp_path / "taken")


def test_what_json_has_no_way_to_write_is_none_and_leaves_the_rest(tmp_path: Path) -> None:
    value = diagnosis()
    value["findings"][0]["values"]["limit"] = float("nan")
    value["findings"][0]["evidence"]["series"][0]["y"][2] = float("inf")
    told = json.loads(write_diagnosis(value, tmp_path)[0].read_text("utf-8"))
    assert told["findings"][0]["values"] == {"auroc_at_half": 0.612, "limit": None, "mixtures": 1840.0}
    assert told["findings"][0]["evidence"]["series"][0]["y"] == [50.3, 52.1, None, 58.7, 61.2]
    assert "| limit | \u2013 |" in (tmp_path / "diagnosis.md").read_text("utf-8") and "skipped" in printed(diagnosis_table(value))


def test_no_text_ends_the_element_it_is_in(tmp_path: Path) -> None:
    for path in (write_diagnosis(hostile(), tmp_path)[2], write_recommendation(hostile()["recommendation"], tmp_path)[2]):
        text = path.read_text("utf-8")
        (told,) = re.findall(r'<script type="application/json" id="content">(.*?)</script>', text, re.DOTALL)
        assert json.loads(told)["title"] == ranking.clean(HOSTILE) and json.loads(told)["command"].startswith("</script>")
        assert text.count("<script") == 3 and "default-src 'none'" in text and "{{" not in text[: text.index("<body>")]


def test_a_picture_is_a_small_copy_as_it_is() -> None:
    picture = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8)
    address = shown_picture(picture, "noise")["uri"]
    assert address.startswith("data:image/png;base64,")
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as image:
        assert image.size == (30, 20) and np.array_equal(np.asarray(image), picture.permute(1, 2, 0).numpy())
    large = shown_picture(torch.zeros(3, 400, 200, dtype=torch.uint8), "black")
    assert (large["width"], large["height"], large["caption"]) == (48, 96, "black") and len(large["uri"]) < 1000
    assert report.PICTURE.fullmatch(address) and not report.PICTURE.fullmatch("https://x/y.png") and not report.PICTURE.fullmatch(address + '"')


# --- the terminal -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 170])
def test_the_terminal_has_the_verdict_first_and_what_to_do(width: int) -> None:
    text = printed(diagnosis_table(diagnosis(), width), width)
    assert all(len(line) <= width for line in text.splitlines())
    told = " ".join(text.split())
    assert told.startswith("mixup-net Training with mixtures has flattened the logits")
    for one in FINDINGS:
        if one["outcome"] in ("issue", "tip"):
            assert f"{one['outcome']} {one['code']} {one['title']} {one['said']} To do: {one['do']}" in told
            assert " ".join(shlex.split(one["command"])) in " ".join(shlex.split(told.replace(" \\ ", " ").replace("'", "")))
        else:
            assert one["said"] not in told
    assert "passed: A1, A2, L1 muted: G1 skipped: R1 not applicable: K1" in told
    places = [told.index(part) for part in ("issue M1", "tip C1", "passed:", "Remedies", "Take knn", "Real OOD")]
    assert places == sorted(places)


@pytest.mark.parametrize("width", [80, 120, 170])
def test_the_terminal_has_remedies_and_ranking(width: int) -> None:
    text = printed(diagnosis_table(diagnosis(), width), width)
    lines = text.splitlines()
    order = []
    for one in REMEDIES:
        (row,) = [i for i, line in enumerate(lines) if line.startswith(f"{one['cost']} ")]
        order.append((row, one["name"]))
        assert one["gain"] is None or gained(one["gain"]["auroc"], one["gain"]["interval"]) in lines[row]
        if width >= 120 and one["gain"] is not None:
            assert f"{100 * one['before']['auroc']:.1f} \u2192 {100 * one['after']['auroc']:.1f}" in lines[row]
            assert one["accuracy_change"] is None or gained(*one["accuracy_change"]) in lines[row]
    assert [name for _, name in sorted(order)] == ["Use knn", "AugDelete", "SFT", "AugRevise"]
    for place, one in enumerate(recommendation()["ranked"], 1):
        rows = [line for line in lines if re.match(rf" ?{place}  {re.escape(one['detector'])}\b", line)]
        assert len(rows) == (place <= 10 or one["detector"] == "msp")
        for row in rows:
            assert (
                share(one["mean"]["auroc"], one["mean"]["interval"]) in row and f"{one['failed']} of 17" in row and ("in use" in row) == (place == 12)
            )
            assert width < 120 or place == 1 or share(one["behind"]["auroc"], one["behind"]["interval"]) in row
            assert width < 170 or all(f"{100 * one['kinds'][kind]['auroc']:.1f}" in row for kind in KINDS)
    assert "7 more are not shown." in text and "mos: n/a. The head has no groups." in text
    for real in diagnosis()["real"]:
        assert re.search(
            rf"photos +{real['detector']} +{re.escape(share(real['auroc'], real['interval']))} +{re.escape(share(real['fpr'], real['fpr_interval']))}",
            text,
        )
    alone = printed(recommendation_table(recommendation(), width), width)
    assert alone.startswith("mixup-net\nID accuracy 81.2 (80.3 to 82.1) %.\n") and "8 more are not shown." in alone and "take this" in alone


def test_reasons_stand_beside_the_detectors_that_are_shown() -> None:
    few = recommendation(DETECTORS[:4])
    text = " ".join(printed(recommendation_table(few)).split())
    assert "mahalanobis: It takes noise for more in-distribution than ID pictures (AUROC 43.3)." in text and "not recommended" in text
    assert "more are not shown" not in text


def test_the_terminal_obeys_no_text() -> None:
    for shown in (diagnosis_table(hostile(), 80), recommendation_table(hostile()["recommendation"], 80)):
        text = printed(shown)
        assert not re.search("[\x00-\x09\x0b-\x1f\u2028\u202e\ud800]", text) and "\\x1b" in text
        text.encode("utf-8")


def test_a_long_command_can_be_copied_from_the_lines_it_is_on() -> None:
    command = 'farfield bench --model \'a model with\nspaces\' --data "x \\" y" --out a\\ b --detectors ' + "knn," * 30
    lines = continued(command, 40).plain
    heard = [
        subprocess.run(["sh", "-ec", f"set -- {each}\nprintf '%s|' \"$@\""], capture_output=True, text=True, check=True).stdout
        for each in (command, lines)
    ]
    assert heard[0] == heard[1] and heard[0].count("|") == 10 and len(lines.splitlines()) > 4
    assert continued("farfield bench", 40).plain == "farfield bench" and "it's" in continued("it's", 10).plain


def test_one_with_nothing_that_may_be_left_out() -> None:
    text, told = report.to_markdown(bare()), printed(diagnosis_table(bare()))
    for part in ("Remedies", "Which detector", "Real OOD", "ID accuracy", "```"):
        assert part not in text and part not in told
    assert "## What was run" in text and "not applicable: K1" in told
