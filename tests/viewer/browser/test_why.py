"""Trees that failed: the page says why at a glance. And trees of odd shapes."""

from __future__ import annotations

from typing import Any

import pytest

from . import samples, trees
from .waiting import wait

pytestmark = pytest.mark.browser


def test_a_failed_tree_says_why(show: Any) -> None:
    """The root ran out of steps because a sub-agent of a sub-agent never found its table."""
    page = show(samples.reports(fails=True))
    why = page.locator(".why")
    text = why.inner_text()
    assert "Did not finish: step limit" in text
    assert [item.split("\n")[0].split()[1] for item in why.locator(".chain li").all_inner_texts()] == [
        "0",
        "0.3",
        "0.3.0",
    ]
    assert "KeyError: 'page 14'" in why.locator(".chain li.last").inner_text()
    assert "NameError" in why.locator(".chain li").first.inner_text()
    assert "2 agents did not finish: 2 step limit" in text
    why.locator(".chain li.last a").last.click()
    wait(page, "location.hash === '#node=0.3.0&step=3'")
    assert "KeyError" in page.locator("#step-3 .error").inner_text()


def test_a_killed_run_says_what_went_on(show: Any) -> None:
    page = show(samples.page_of(trees.killed()))
    text = page.locator(".why").inner_text()
    assert "never ended" in text
    assert "its code had not ended" in text
    assert "while True: pass" in text
    assert "never ended" in page.locator(".headline-line").inner_text()
    assert page.locator("[role=treeitem] .badge.running").all_inner_texts() == ["never ended", "never ended"]


def test_an_endless_chain(show: Any) -> None:
    page = show(samples.page_of(trees.chain(100)), width=320)
    assert page.locator(".chain li").count() == 6
    assert "96 agents between" in page.locator(".chain .gap").inner_text()
    page.locator("[role=tree]").focus()
    page.keyboard.press("End")
    wait(page, "rao.store.get().node.split('.').length === 101")
    goal = page.locator("[role=treeitem][aria-selected=true] .goal").bounding_box()
    assert goal["width"] > 20
    assert goal["x"] < 200
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert "96 more" in page.locator(".path").inner_text()


def test_a_run_without_steps(show: Any) -> None:
    page = show(samples.page_of(trees.no_steps()))
    assert "refused the connection" in page.locator(".why").inner_text()
    assert "This agent took no step." in page.locator("#detail").inner_text()


def test_a_run_without_agents(show: Any) -> None:
    data = samples.reports()
    data["runs"][0].update(nodes=[], status="running", complete=False)
    page = show(data)
    assert "stopped before its first agent was started" in page.locator(".why").inner_text()


def test_a_call_without_usage(show: Any) -> None:
    data = samples.reports()
    run = data["runs"][0]
    run["usage"] = {**run["usage"], "total": None, "prompt": None, "completion": None, "cost": None}
    run["nodes"][0]["usage"] = None
    run["nodes"][0]["steps"][0]["model"][0]["usage"] = None
    page = show(data, at="#node=0&step=1")
    assert "tokens not reported" in page.locator(".headline-line").inner_text()
    assert "tokens not reported" in page.locator("#step-1 .call-facts").inner_text()
    assert page.locator("[role=treeitem] .tokens").first.inner_text() == "–"


def test_an_agent_of_500_steps(show: Any) -> None:
    data = samples.reports()
    node = data["runs"][0]["nodes"][1]
    node["steps"] = [{**node["steps"][0], "number": i + 1} for i in range(500)]
    page = show(data, at="#node=0.0&step=300")
    assert page.locator("#step-300 .step-body").is_visible()
    assert page.locator(".step").count() <= 120
    page.get_by_role("button", name="later steps").click()
    assert page.locator(".step").count() == 500


def test_other_formats_are_refused(show: Any) -> None:
    data = samples.reports()
    data["format"] = 2
    file = show.folder / "new.html"
    from recursive_agent.viewer.page import page_text

    file.write_text(page_text(data), encoding="utf-8")
    page = show.browser.new_context().new_page()
    page.goto(file.as_uri())
    assert "newer version" in page.locator("#app").inner_text()
