"""A real Chromium for the page of the viewer, which must not speak to any network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.viewer.page import page_text

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Where a Chromium is (see scripts/chromium.sh)."""
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    return os.environ.get("RAO_CHROMIUM") or next((found for name in names if (found := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium: see scripts/chromium.sh")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield started
        started.close()


@dataclass
class Show:
    """Opens pages, and notes what they must not do: errors, refused scripts and styles, requests."""

    browser: Any
    folder: Path
    problems: list[str]

    def __call__(
        self, data: dict[str, Any], *, runs: Any = (), scheme: str = "light", width: int = 1280, at: str = ""
    ) -> Any:
        file = self.folder / f"page{len(list(self.folder.iterdir()))}.html"
        file.write_text(page_text(data, runs=runs), encoding="utf-8")
        return self.open(f"{file.as_uri()}{at}", scheme=scheme, width=width)

    def open(self, url: str, *, scheme: str = "light", width: int = 1280, origin: str | None = None) -> Any:
        context = self.browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", lambda message: message.type == "error" and self.problems.append(message.text))
        page.on("request", lambda request: self._request(request.url, url, origin))
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))
        page.goto(url)
        page.wait_for_selector("header.bar")
        return page

    def _request(self, asked: str, own: str, origin: str | None) -> None:
        if asked.partition("#")[0] != own.partition("#")[0] and not (origin and asked.startswith(origin)):
            self.problems.append(f"request: {asked}")


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    shown = Show(browser, tmp_path, [])
    yield shown
    for context in browser.contexts:
        context.close()
    assert shown.problems == []
