"""Everything from a trace is text: a trace full of script, markup and control characters does nothing and is readable."""

from __future__ import annotations

from typing import Any

import pytest

from recursive_agent.viewer.payload import page_data, run_data

from . import samples, trees
from .waiting import unfold

pytestmark = pytest.mark.browser

FOREIGN = "#app :is(script, img, svg, iframe, style, object, base, [onerror], [onload]), a[href^='javascript:']"


def check(page: Any) -> None:
    assert page.evaluate("globalThis.harmed") is None
    assert page.locator(FOREIGN).count() == 0
    raw = page.evaluate("document.querySelector('#app').textContent")
    assert not set(raw) & set("\u202e\u2066\x1b\x07\x00\u200b\ufeff")


def test_run(show: Any) -> None:
    data = samples.page_of(
        trees.hostile(), title=trees.MARKUP, credit={"0": {"why": [trees.MARKUP], "left_out": trees.MARKUP}}
    )
    page = show(data, at="#node=0&step=1")
    assert "\\u202e" in page.locator("h1").inner_text()
    check(page)
    unfold(page)
    text = page.locator("main").inner_text()
    assert "<script>globalThis.harmed = 1</script>" in text
    for character in ("\\u202e", "\\x1b", "\\x00", "\\u200b", "\\ud800", "\\u{e0041}"):
        assert character in text
    check(page)
    page.locator("#search").fill("<script>globalThis")
    page.wait_for_selector(".hit mark")
    check(page)
    page.locator("#search").fill("${globalThis.harmed=1}&lt;")
    page.wait_for_selector(".hit mark")
    check(page)
    page.get_by_role("button", name="Show all").first.click()
    check(page)
    page.locator("#row-0\\.0").click()
    check(page)


def test_folder_and_comparison(show: Any) -> None:
    run = run_data(trees.hostile(), file=trees.MARKUP)
    row = samples.row(run, 0, file=trees.MARKUP, group=trees.MARKUP)
    page = show(page_data(trees.MARKUP, kind="folder", rows=[row], note=trees.MARKUP))
    assert page.locator(".table-row").count() == 1
    check(page)
    pairs = [{"left": "0", "right": "0", "same": False, "changed": [trees.MARKUP], "steps": [], "below": 0}]
    other = {
        **run,
        "id": trees.MARKUP,
        "nodes": [{**node, "goal": node["goal"] + "\n" + trees.MARKUP} for node in run["nodes"]],
    }
    compare = {"left": run["id"], "right": trees.MARKUP, "pairs": pairs}
    page = show(page_data(trees.MARKUP, kind="compare", runs=[run, other], compare=compare))
    assert page.locator(".removed, .added").count() > 0
    check(page)


def test_hostile_address(show: Any) -> None:
    page = show(samples.reports(), at="#node=<img src=x onerror=harmed=1>&step=-1&run=constructor&view=__proto__")
    assert page.locator("#detail").is_visible()
    check(page)


def test_policy_refuses_foreign_script(show: Any) -> None:
    """What would get into the page in spite of all that is not run: the content policy names each script by its hash."""
    page = show(samples.reports())
    page.evaluate("""() => {
        const script = document.createElement('script');
        script.textContent = 'globalThis.harmed = 1';
        document.body.append(script);
        const image = document.createElement('img');
        image.setAttribute('onerror', 'globalThis.harmed = 1');
        image.src = 'data:,';
        document.body.append(image);
    }""")
    refused = page.evaluate("""async () => {
        const answer = await fetch('https://example.org/').then(() => 'sent', () => 'refused');
        return answer;
    }""")
    assert refused == "refused"
    assert page.evaluate("globalThis.harmed") is None
    assert len([problem for problem in show.problems if "Content Security Policy" in problem]) >= 2
    show.problems.clear()
