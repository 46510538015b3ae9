"""Draws `docs/report.png`, the page of a finished benchmark in headless chromium: `python docs/screenshot.py farfield-out/report.html`."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

QUIET = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"
WIDTH = 1280
LEFT_OUT = "#pictures > h3:nth-of-type(n+3), #pictures > ul:nth-of-type(n+3), #pictures > details, section:has(#classes), section:has(#ran), section > details, .plots .card:nth-child(n+3)"


def main() -> None:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in QUIET.split():
        options.add_argument(argument)
    path = Path(__file__).with_name("report.png")
    with webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver"))) as browser:

        def sized(height: int) -> None:
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False})

        sized(900)
        browser.get(Path(sys.argv[1]).resolve().as_uri())
        style = f"{LEFT_OUT} {{ display: none !important }} header {{ position: static !important }}"
        browser.execute_script("document.head.append(Object.assign(document.createElement('style'), { textContent: arguments[0] }))", style)
        sized(browser.execute_script("return document.documentElement.scrollHeight"))
        while browser.execute_script("return [...document.querySelectorAll('.frame')].some((frame) => !frame.querySelector('svg'))"):
            time.sleep(0.05)
        time.sleep(0.5)
        browser.save_screenshot(str(path))
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)


if __name__ == "__main__":
    main()
