"""No serious fault in any view, by axe, in light and dark."""

from __future__ import annotations

from typing import Any

import pytest

from . import samples, trees
from .waiting import unfold

pytestmark = pytest.mark.browser

VIEWS = ["run", "step", "failed", "many", "search", "hostile", "folder", "compare", "help", "narrow"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", VIEWS)
def test_axe(show: Any, view: str, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    runs: Any = ()
    at = ""
    if view == "folder":
        data, runs = samples.folder(30)
    elif view == "compare":
        data = samples.comparison()
    elif view == "many":
        data = samples.many()
    elif view == "hostile":
        data, at = samples.page_of(trees.hostile()), "#node=0&step=1"
    else:
        data, at = samples.reports(fails=view != "run"), "#node=0.3.0&step=3" if view == "step" else ""
    page = show(data, runs=runs, scheme=scheme, at=at, width=320 if view == "narrow" else 1280)
    if view == "search":
        page.locator("#search").fill("page")
        page.wait_for_selector(".hit")
    if view == "help":
        page.keyboard.press("?")
    if view in ("step", "compare"):
        unfold(page)
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    faults = [
        f"{each['id']}: {each['help']} {[node['target'] for node in each['nodes'][:3]]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert faults == []
