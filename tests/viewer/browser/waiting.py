"""Waiting in a page. Playwright's own way evaluates text in the page, which the page's content policy refuses."""

from __future__ import annotations

from typing import Any

from tests.waiting import wait_until


def wait(page: Any, condition: str) -> None:
    """Wait until a JavaScript expression is true in the page."""
    wait_until(lambda: page.evaluate(condition))


def unfold(page: Any) -> None:
    """Open all that is folded in the details of the agent, and what it then shows."""
    closed = "document.querySelectorAll('#detail .fold button[aria-expanded=false]')"
    for _ in range(3):
        page.evaluate(f"{closed}.forEach((button) => button.click())")
        page.evaluate("() => new Promise((drawn) => requestAnimationFrame(() => setTimeout(drawn)))")
