"""Draws the pictures of the viewer in the documents anew: `python scripts/screenshots.py [NAME …]`, from the repository."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))

from recursive_agent.viewer.page import page_text
from tests.viewer.browser import samples
from tests.viewer.browser.conftest import ARGUMENTS, chromium

MOST = 200_000
"""Bytes of a picture."""


def pictures() -> dict[str, tuple[dict[str, Any], Any, str, tuple[int, int], str, list[str]]]:
    """By name: data, runs, address, size, colours, and keys to press."""
    folder, runs = samples.folder(500)
    wide, narrow = (1280, 800), (320, 900)
    return {
        "run": (samples.reports(), (), "#node=0&step=1", wide, "light", []),
        "failed": (samples.reports(fails=True), (), "#node=0.3.0&step=3", wide, "light", []),
        "dark": (samples.reports(fails=True), (), "", wide, "dark", []),
        "2000-agents": (samples.many(), (), "", wide, "light", ["n", "s", "s"]),
        "search": (samples.many(), (), "", wide, "dark", ["/", *"document 42", "Enter", "ArrowDown"]),
        "folder": (folder, runs, "", (1280, 560), "light", []),
        "compare": (samples.comparison(), (), "", wide, "light", []),
        "narrow": (samples.reports(fails=True), (), "", narrow, "light", []),
    }


def main(target: Path, names: list[str]) -> None:
    """Write `viewer-NAME.png` for each, or for those named."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=ARGUMENTS)
        for name, (data, runs, address, (width, height), scheme, keys) in pictures().items():
            if names and name not in names:
                continue
            file = Path(folder, f"{name}.html")
            file.write_text(page_text(data, runs=runs), encoding="utf-8")
            context = browser.new_context(
                viewport={"width": width, "height": height},
                color_scheme=scheme,
                timezone_id="UTC",
                reduced_motion="reduce",
            )
            page = context.new_page()
            page.goto(f"{file.as_uri()}{address}")
            page.wait_for_selector("main > *")
            for key in keys:
                if key == "Enter":
                    page.wait_for_timeout(1000)  # until the search has found everything
                page.keyboard.press("Space" if key == " " else key)
            page.wait_for_timeout(500)
            picture = target / f"viewer-{name}.png"
            page.screenshot(path=str(picture))
            size = picture.stat().st_size
            print(f"{picture}  {size / 1000:.0f} kB")
            assert size < MOST, f"{picture} is larger than {MOST:,} bytes"
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(__file__).parents[1] / "docs" / "images", sys.argv[1:])
