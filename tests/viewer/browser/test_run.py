"""The page of one run in a real browser: what it shows, its keys, its addresses."""

from __future__ import annotations

import re
from typing import Any

import pytest

from . import samples, trees
from .waiting import wait

pytestmark = pytest.mark.browser

SELECTED = "[role=treeitem][aria-selected=true]"


def selected(page: Any) -> str:
    return page.locator(SELECTED).get_attribute("id").removeprefix("row-")


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_shows_tree_and_agent(show: Any) -> None:
    page = show(samples.reports())
    assert page.title() == "Which division lost most?"
    assert page.locator("[role=treeitem]").count() == 6
    head = page.locator(".headline-line").inner_text()
    assert "finished" in head
    assert "6 agents" in head
    assert "depth 2" in head
    assert "13 model calls" in head
    detail = page.locator("#detail").inner_text()
    assert "Freight" in detail
    assert "2 steps" in detail
    assert "Sub-agents" in detail
    assert page.locator(".why").count() == 0
    bars = page.evaluate("""() => {
        const canvas = document.querySelector('.bars canvas');
        const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
        const colours = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) colours.add(`${data[i]},${data[i+1]},${data[i+2]}`);
        return [...colours];
    }""")
    wanted = {
        "model": "47,111,196",
        "code": "227,154,27",
        "waits": "201,179,221",
        "tool": "28,138,107",
        "critical": "196,36,107",
    }
    assert {name for name, colour in wanted.items() if colour not in bars} == set()


def test_keys_of_the_tree(show: Any) -> None:
    page = show(samples.reports())
    page.locator("[role=tree]").focus()
    press(page, "ArrowDown")
    assert selected(page) == "0.0"
    press(page, "j", "j", "k")
    assert selected(page) == "0.1"
    press(page, "End")
    assert selected(page) == "0.3.0"
    press(page, "ArrowLeft")
    assert selected(page) == "0.3"
    press(page, "ArrowLeft")
    assert page.locator("#row-0\\.3").get_attribute("aria-expanded") == "false"
    assert page.locator("[role=treeitem]").count() == 5
    press(page, "ArrowRight")
    assert page.locator("[role=treeitem]").count() == 6
    press(page, "ArrowRight")
    assert selected(page) == "0.3.0"
    press(page, "Home")
    assert selected(page) == "0"
    assert page.locator("[role=tree]").get_attribute("aria-activedescendant") == "row-0"
    press(page, "s")
    page.wait_for_selector("#step-1 .step-body")
    press(page, "Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    press(page, "?")
    assert page.locator("dialog[open]").is_visible()
    press(page, "Escape")
    assert page.locator("dialog[open]").count() == 0


def test_address_survives_reload_and_back(show: Any) -> None:
    page = show(samples.reports(), at="#node=0.3&step=2")
    assert selected(page) == "0.3"
    assert page.locator("#step-2 .code").is_visible()
    page.locator("#row-0\\.1").click()
    wait(page, "location.hash === '#node=0.1'")
    page.locator("#step-1 button").first.click()
    wait(page, "location.hash === '#node=0.1&step=1'")
    page.reload()
    page.wait_for_selector("#step-1 .step-body")
    assert selected(page) == "0.1"
    page.go_back()
    page.go_back()
    wait(page, f"document.querySelector('{SELECTED}').id === 'row-0.3'")
    assert page.locator("#step-2 .code").is_visible()
    page.go_forward()
    wait(page, f"document.querySelector('{SELECTED}').id === 'row-0.1'")


def test_a_step_shows_everything(show: Any) -> None:
    page = show(samples.reports(), at="#node=0&step=1")
    step = page.locator("#step-1")
    text = step.inner_text()
    for piece in ("The four reports do not depend", "asyncio.gather", "Each report can be read", "prompt 670 tokens"):
        assert piece in text
    assert step.locator(".call").count() == 4
    assert step.locator(".py-host").all_inner_texts() == ["launch_subagent"]
    step.get_by_role("button", name="Prompt as sent").click()
    assert "You are an agent that writes Python" in step.inner_text()
    step.locator(".call a").first.click()
    assert selected(page) == "0.0"


def test_prompt_as_sent_is_rebuilt(show: Any) -> None:
    """Each call shows the whole conversation; after a compaction only the new one."""
    page = show(samples.page_of(trees.steered()), at="#node=0&step=3")
    button = page.locator("#step-3").get_by_role("button", name="Prompt as sent")
    assert "4 messages, 1 new" in button.inner_text()
    button.click()
    roles = [words.split()[0] for words in page.locator("#step-3 .messages .fold-head").all_inner_texts()]
    assert [role.strip("▸▾") for role in roles] == ["system", "user", "assistant", "user"] or len(roles) == 4
    summary = page.locator("#step-2")
    page.locator("#step-2 button").first.click()
    notes = summary.get_by_role("button", name="Prompt as sent").all_inner_texts()
    assert "4 messages, 1 new" in notes[0]
    assert "2 messages, 2 new" in notes[1]
    assert "Summary of the conversation" in summary.inner_text()
    assert "begins anew" in summary.inner_text()
    events = page.locator(".events").inner_text()
    assert "Leave b.txt alone." in events
    assert "Not without a copy." in events
    assert "And what is left?" in events


def test_credit_is_explained(show: Any) -> None:
    page = show(samples.reports())
    credit = page.locator(".credit").inner_text()
    assert "0.625" in credit
    assert "mean of the other 4 attempts" in credit
    assert "advantage" in credit
    data = samples.reports()
    data["runs"][0]["nodes"][0]["credit"] = {"left_out": "The run has no group.", "why": [], "reward": None}
    left_out = show(data)
    assert "The run has no group." in left_out.locator(".credit").inner_text()
    assert left_out.locator(".credit dd").count() == 0


def test_search_lists_and_marks(show: Any) -> None:
    page = show(samples.reports())
    press(page, "/")
    page.keyboard.type("PAGE 14")
    wait(page, "document.querySelector('.hits [role=status]')?.textContent.includes('places in 2 agents')")
    wheres = page.locator(".hit .where").all_inner_texts()
    assert "0.3, step 2 · code" in wheres
    assert "0.3.0 · goal" in wheres
    press(page, "Enter", "ArrowDown")
    page.wait_for_selector(".detail mark")
    assert {mark.lower() for mark in page.locator(".detail mark").all_inner_texts()} == {"page 14"}
    page.locator("#search").fill("nothing like this")
    wait(page, "document.querySelector('.hits [role=status]').textContent === 'Nothing was found.'")
    press(page, "/", "Escape")
    assert page.locator(".hits").count() == 0


@pytest.mark.parametrize("field", ["output", "thought", "prompt", "credit", "error", "call"])
def test_search_finds_every_field(show: Any, field: str) -> None:
    words = {
        "output": "Freight -0.6",
        "thought": "do not depend on each other",
        "prompt": "an agent like you",
        "credit": "shares the depth",
        "error": "cell 1, line 4",
        "call": "Q2.txt",
    }[field]
    page = show(samples.reports(fails=True))
    page.locator("#search").fill(words)
    page.wait_for_selector(".hit")
    assert any(where.endswith(f"· {field}") for where in page.locator(".hit .where").all_inner_texts())


def test_zoom(show: Any) -> None:
    page = show(samples.reports())
    labels = page.locator(".axis").inner_text()
    press(page, "+", "+")
    wait(page, f"document.querySelector('.axis').innerText !== {labels!r}")
    assert page.get_by_role("button", name="Zoom out").is_enabled()
    press(page, "0")
    wait(page, f"document.querySelector('.axis').innerText === {labels!r}")
    box = page.locator(".overview canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + 20)
    page.mouse.up()
    zoom = page.evaluate("rao.store.get().zoom")
    end = page.evaluate("rao.store.run().end")
    assert zoom["from"] == pytest.approx(0.2 * end, rel=0.05)
    assert zoom["to"] == pytest.approx(0.4 * end, rel=0.05)


def test_a_bar_leads_to_its_step(show: Any) -> None:
    page = show(samples.reports())
    box = page.locator(".bars canvas").bounding_box()
    run = samples.reports()["runs"][0]
    cell = run["nodes"][4]["steps"][0]["cell"]
    assert run["nodes"][4]["id"] == "0.3"
    x = box["x"] + box["width"] * (cell["start"] + 0.02) / run["duration"]
    page.mouse.move(x, box["y"] + 4.5 * 28)
    assert "Step 1" in page.locator(".tip").inner_text()
    page.mouse.click(x, box["y"] + 4.5 * 28)
    wait(page, "location.hash === '#node=0.3&step=1'")


def test_theme_switch_is_remembered(show: Any) -> None:
    page = show(samples.reports())
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    switch = page.get_by_role("button", name=re.compile("^Colours"))
    switch.click()
    switch.click()
    assert page.evaluate(ground) == "rgb(18, 21, 26)"
    page.reload()
    page.wait_for_selector("header.bar")
    assert page.evaluate(ground) == "rgb(18, 21, 26)"


@pytest.mark.parametrize("name", ["reports", "failed", "many", "folder", "compare"])
def test_nothing_is_cut_off_at_320_pixels(show: Any, name: str) -> None:
    runs: Any = ()
    if name == "folder":
        data, runs = samples.folder(12)
    else:
        data = {
            "reports": samples.reports,
            "failed": lambda: samples.reports(fails=True),
            "many": samples.many,
            "compare": samples.comparison,
        }[name]()
    page = show(data, runs=runs, width=320)
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    press(page, "s")
    assert page.evaluate("document.documentElement.scrollWidth") <= 320


def test_only_rows_that_are_seen_are_drawn(show: Any) -> None:
    page = show(samples.many())
    tree = page.locator("[role=tree]")
    assert page.locator("[role=treeitem]").count() < 60
    assert int(page.evaluate("parseFloat(document.querySelector('[role=tree] .space').style.height)")) == 2000 * 28
    tree.focus()
    press(page, "End")
    wait(page, "rao.store.get().node === rao.store.run().order.at(-1).id")
    assert page.locator(SELECTED).is_visible()
    assert page.locator("[role=treeitem]").count() < 60
    page.get_by_role("button", name="Fold", exact=True).click()
    page.get_by_role("button", name="Unfold all").click()
    press(page, "n")
    assert "did not" not in page.locator(SELECTED).inner_text()
    assert page.locator(f"{SELECTED} .mark.failed").count() == 1
