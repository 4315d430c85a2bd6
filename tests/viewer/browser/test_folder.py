"""A folder of runs as a table, and two runs side by side."""

from __future__ import annotations

from typing import Any

import pytest

from . import samples
from .waiting import wait

pytestmark = pytest.mark.browser


def goals(page: Any) -> list[str]:
    return page.locator(".table-row a").all_inner_texts()


def test_sort_and_filter(show: Any) -> None:
    data, runs = samples.folder(40)
    page = show(data, runs=runs)
    assert page.locator(".filters [role=status]").inner_text() == "40 runs"
    assert goals(page)[0] == "Read reports of year 2019"  # newest first
    page.get_by_role("columnheader", name="Tokens").get_by_role("button").click()
    page.get_by_role("columnheader", name="Tokens").get_by_role("button").click()
    assert goals(page)[0] == "Read reports of year 1980"
    assert page.get_by_role("columnheader", name="Tokens").get_attribute("aria-sort") == "ascending"
    page.get_by_label("Status").select_option("step_limit")
    assert page.locator(".filters [role=status]").inner_text() == "13 of 40 runs"
    assert set(page.locator(".table-row .status").all_inner_texts()) == {"step limit"}
    page.get_by_label("Tokens from").fill("2000")
    assert page.locator(".filters [role=status]").inner_text() == "4 of 40 runs"
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Score from").fill("0.5")
    assert page.locator(".filters [role=status]").inner_text() == "27 of 40 runs"
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Text").fill("year 1999")
    assert goals(page) == ["Read reports of year 1999"]
    page.get_by_label("Text").fill("NameError: name 'partial'")  # in the traces alone
    wait(page, "document.querySelector('.filters [role=status]').textContent === '13 of 40 runs'")
    page.get_by_label("Text").fill("nowhere")
    wait(page, "document.querySelector('.filters [role=status]').textContent === '0 of 40 runs'")
    assert "No run passes the filters." in page.locator("#app").inner_text()


def test_open_a_run_and_come_back(show: Any) -> None:
    data, runs = samples.folder(9)
    page = show(data, runs=runs)
    page.locator(".table-row a", has_text="1982").click()
    wait(page, "location.hash === '#run=run-2'")
    assert "step limit" in page.locator(".headline-line").inner_text()
    page.locator("#row-0\\.3").click()
    wait(page, "location.hash === '#run=run-2&node=0.3'")
    page.reload()
    page.wait_for_selector("#row-0\\.3[aria-selected=true]")
    page.go_back()
    page.go_back()
    page.wait_for_selector(".table-row")
    page.go_forward()
    page.wait_for_selector(".headline-line")
    page.locator("a.button", has_text="All runs").click()
    page.wait_for_selector(".table-row")
    page.locator(".table-box").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wait(page, "location.hash === '#run=run-7'")


def test_a_link_to_a_step_of_a_run(show: Any) -> None:
    data, runs = samples.folder(3)
    page = show(data, runs=runs, at="#run=run-2&node=0.3.0&step=2")
    assert page.locator("#step-2 .step-body").is_visible()


def test_a_run_that_the_page_does_not_hold(show: Any) -> None:
    data, _ = samples.folder(3)
    page = show({**data, "note": "The runs are not in this page: they take 80 MB."})
    assert "80 MB" in page.locator("#app").inner_text()
    page.locator(".table-row a").first.click()
    wait(page, "document.querySelector('main').innerText.includes('rao trace view')")


def test_two_runs(show: Any) -> None:
    page = show(samples.comparison())
    assert "4 of 7 pairs differ" in page.locator(".sides").inner_text()
    assert page.locator(".row.changed").count() == 4
    page.locator(".tree-head input").check()
    assert page.locator(".row.pair").count() == 4
    detail = page.locator("#detail")
    assert "Differs: status, reason, result, score, steps" in detail.inner_text()
    assert any("Freight" in line for line in page.locator(".removed").all_inner_texts())
    assert any("used its 2 model calls" in line for line in page.locator(".added").all_inner_texts())
    page.locator("[role=tree]").focus()
    page.keyboard.press("End")
    assert "Right only" in detail.inner_text()
    wait(page, "location.hash === '#node=~0.4'")
    page.reload()
    page.wait_for_selector(".detail-head")
    assert "Right only" in detail.inner_text()
    page.locator("#pair-0").click()
    detail.get_by_role("button", name="Step 1").click()
    step = page.locator(".step-pairs li").first
    assert any(line.startswith("+") and "did not finish" in line for line in step.locator(".added").all_inner_texts())
