"""A real browser for the tests of the page, and what those tests read off it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy import stats
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--disable-dev-shm-usage", "--window-size=1280,900",
)  # fmt: skip

# What a page's elements look like, painted one over the other: for every text in sight its contrast with what lies behind it.
CONTRASTS = """
const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
const pen = canvas.getContext("2d", { willReadFrequently: true });
const pixel = (colours) => {
  pen.clearRect(0, 0, 1, 1);
  for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);
};
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
const light = (rgb) => rgb.reduce((sum, c, i) => sum + linear(c / 255) * [0.2126, 0.7152, 0.0722][i], 0);
const found = [];
for (const one of document.querySelectorAll(arguments[0])) {
  const text = [...one.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join("").trim();
  if (!text || !one.checkVisibility() || ["SCRIPT", "STYLE", "OPTION"].includes(one.tagName)) continue;
  const behind = ["white"];
  const chain = [];
  for (let at = one; at; at = at.parentElement) chain.unshift(at);
  for (const at of chain) behind.push(getComputedStyle(at).backgroundColor);
  const style = getComputedStyle(one);
  const [paper, ink] = [pixel(behind), pixel([...behind, one instanceof SVGElement ? style.fill : style.color])];
  const [low, high] = [light(paper), light(ink)].sort((a, b) => a - b);
  found.push([`${one.tagName} ${one.className} ${text.slice(0, 30)}`, (high + 0.05) / (low + 0.05), paper, ink]);
}
return found;
"""
CAUGHT = """
return [...document.getElementById("caught-table").tBodies[0].rows].map((row) =>
  [row.cells[0].firstChild.data, [row.cells[0].querySelector("small").textContent, row.cells[1].textContent, row.cells[2].textContent]]);
"""
TABLE = """
const table = document.getElementById(arguments[0]);
return table && [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent));
"""
FIGURES = """
return [...document.getElementById(arguments[0]).tBodies[0].rows].map((row) => ({
  rank: row.cells[0].textContent,
  brackets: [...row.cells[0].querySelectorAll(".tie")].map((tie) => [...tie.classList].find((name) => name.startsWith("tie-"))),
  detector: row.cells[1].textContent,
  figure: row.cells[2].querySelector("strong").textContent,
  interval: row.cells[2].querySelector("small").textContent,
  bar: ["left", "width"].map((key) => row.querySelector(".whisker i").style[key]),
  dot: row.querySelector(".whisker b").style.left,
}));
"""
SORTS = """
const heads = [...document.getElementById(arguments[0]).tHead.querySelectorAll("th[aria-sort]")];
return heads.map((head) => [head.querySelector("button").dataset.key, head.getAttribute("aria-sort")]);
"""
SLIDE = """
const rate = document.getElementById("rate");
let [low, high] = [0, Number(rate.max)];
while (low <= high) {
  const place = Math.floor((low + high) / 2);
  rate.value = place;
  rate.dispatchEvent(new Event("input", { bubbles: true }));
  const said = parseInt(document.getElementById("rate-said").textContent, 10);
  if (said === arguments[0]) return;
  [low, high] = said < arguments[0] ? [place + 1, high] : [low, place - 1];
}
"""
STRIPS = """
const text = (figure, part) => figure.querySelector(part).textContent.toWellFormed();
const about = (figure) => {
  const image = figure.querySelector("img");
  const found = { score: text(figure, "strong"), text: text(figure, "figcaption"), called: text(figure, ".called") };
  return { ...found, image: image && { alt: image.getAttribute("alt").toWellFormed(), src: image.getAttribute("src") } };
};
const strip = (list) => (list.matches("ul") ? [...list.querySelectorAll("figure")].map(about) : []);
return [...document.querySelectorAll("#pictures > h3")].map((head) => [head.firstChild.data, strip(head.nextElementSibling)]);
"""


class Browser:
    """Headless Chromium."""

    def __init__(self, profile: Path) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise FileNotFoundError("chromium and chromedriver are not both installed")
        options = Options()
        options.binary_location = chromium
        for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})  # type: ignore[no-untyped-call]
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(30)
        self.driver.get("about:blank")

    def open(self, path: Path, ready: bool = True) -> None:
        """Loads a page afresh, in a window of the usual size and colours, and waits until its script is through."""
        self.command("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        self.media()
        self.complaints()
        self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        self.driver.get(path.resolve().as_uri())
        if ready:
            self.wait("return document.documentElement.dataset.ready === 'yes'")

    def command(self, name: str, **settings: Any) -> Any:
        """One of Chromium's own commands."""
        return self.driver.execute_cdp_cmd(name, settings)

    def media(self, scheme: str = "light", kind: str = "") -> None:
        """What the page is shown on, and the colours a person has chosen for all pages."""
        self.command("Emulation.setEmulatedMedia", media=kind, features=[{"name": "prefers-color-scheme", "value": scheme}])

    def complaints(self) -> list[str]:
        """What the console has of warnings and errors since it was last looked at."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in ("SEVERE", "WARNING")]

    def asked_for(self) -> list[str]:
        """The addresses that were asked for since the page was opened."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]  # type: ignore[no-untyped-call]
        return [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]

    def js(self, script: str, *arguments: Any) -> Any:
        """What a script returns."""
        return self.driver.execute_script(script, *arguments)  # type: ignore[no-untyped-call]

    def wait(self, script: str, *arguments: Any, seconds: float = 20) -> Any:
        """What a script returns, once that is true."""
        try:
            return WebDriverWait(self.driver, seconds, poll_frequency=0.02).until(lambda _: self.js(script, *arguments))
        except Exception as error:
            raise AssertionError(f"never so: {script}; the console: {self.complaints()}") from error

    def find(self, selector: str) -> WebElement:
        """The first element of a selector."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[WebElement]:
        """All elements of a selector."""
        return self.driver.find_elements("css selector", selector)

    def text(self, selector: str) -> str:
        """The text of an element, in sight or not."""
        return str(self.js("return document.querySelector(arguments[0]).textContent.toWellFormed()", selector))

    def pick(self, select: str, label: str) -> None:
        """Chooses the option of a label, as a person does, in a list of choices."""
        options = self.js("return [...document.querySelector(arguments[0]).options].map((option) => option.text)", select)
        self.find(f"{select} option:nth-child({options.index(label) + 1})").click()

    def keys(self, *keys: str) -> None:
        """Types, into whatever has the focus."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def table(self, name: str) -> list[list[str]]:
        """The texts of a table's cells."""
        found: list[list[str]] = self.js(TABLE, name)
        return found

    def figures(self, name: str) -> list[dict[str, Any]]:
        """The rows of a ranking."""
        found: list[dict[str, Any]] = self.js(FIGURES, name)
        return found

    def caught(self) -> dict[str, list[str]]:
        """Of each set, in the order of the table: what it is, the share that is caught, and its interval."""
        return dict(self.js(CAUGHT))

    def sorts(self, name: str) -> dict[str, str]:
        """By the columns of a table that sort, how they do."""
        return dict(self.js(SORTS, name))

    def press(self, name: str, key: str) -> None:
        """Clicks a column's head; a set's name may be anything, so the button is looked for by its value."""
        script = "return [...document.querySelectorAll(`#${arguments[0]} th button`)].find((one) => one.dataset.key === arguments[1])"
        button = self.js(script, name, key)
        self.js("arguments[0].scrollIntoView({ block: 'center', inline: 'center' })", button)
        button.click()

    def strips(self) -> dict[str, list[dict[str, Any]]]:
        """The strips of pictures by their heading."""
        return {heading.strip(): figures for heading, figures in self.js(STRIPS)}

    def slide_to(self, rate: int) -> None:
        """Drags the slider to and fro until it says so many of 1,000."""
        self.js(SLIDE, rate)
        assert self.text("#rate-said") == f"{rate} of 1,000"

    def contrasts(self, selector: str = "body *") -> list[tuple[str, float, list[int], list[int]]]:
        """Of every text in sight: what it is, its contrast with its background (WCAG 2), and the two colours."""
        return [tuple(found) for found in self.js(CONTRASTS, selector)]

    def tabbed(self) -> list[WebElement]:
        """What the tab key comes by, from the top of the page to its end."""
        self.js("document.activeElement.blur(); window.met = []; document.addEventListener('focusin', (event) => window.met.push(event.target))")
        self.keys(Keys.TAB * (len(self.all("button, select, input, summary, [tabindex], a")) + 1))
        found: list[WebElement] = self.js("return [...new Set(window.met)]")
        return found


def clopper_pearson(k: int, n: int) -> tuple[float, float]:
    """The exact interval of k of n (Clopper and Pearson 1934)."""
    low = float(stats.beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    return low, float(stats.beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0


def threshold(s_in: Sequence[float], rate: int) -> float:
    """The largest score below which at most `rate` of 1,000 ID images lie, by counting."""
    return max(t for t in s_in if 1000 * sum(s < t for s in s_in) <= rate * len(s_in))


def numbers(text: str) -> list[float]:
    """The numbers in a text."""
    return [float(found.replace(",", "")) for found in re.findall(r"-?\d[\d,]*\.?\d*(?:e[+-]?\d+)?", text)]
