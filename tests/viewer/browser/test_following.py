"""A page that follows: what changes in the files is merged; what is selected, and where one has scrolled to, stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recursive_agent.trace.schema import RunStarted
from recursive_agent.trace.store import TraceWriter
from recursive_agent.viewer.server import ViewServer

from . import trees
from .waiting import wait

pytestmark = pytest.mark.browser


def writing(path: Path, recording: trees.Recording) -> TraceWriter:
    writer = TraceWriter(path)
    writer.append(RunStarted(time=trees.START, run=recording.run, model=trees.MODEL, interface="chat"))
    return writer


def put(writer: TraceWriter, recording: trees.Recording) -> None:
    for event in recording.events:
        writer.append(event)
    recording.events.clear()


def test_follows_a_run(show: Any, tmp_path: Path) -> None:
    recording = trees.Recording()
    with writing(tmp_path / "run.jsonl", recording) as writer, ViewServer(tmp_path / "run.jsonl") as server:
        recording.start("0", 0.0, "Count the words of all documents")
        for i in range(60):
            recording.start(f"0.{i}", 0.1 + i / 10, f"Count the words of document {i}")
        put(writer, recording)
        page = show.open(server.url, origin=server.url)
        wait(page, "rao.store.run()?.order.length === 61")
        assert "(61 running)" in page.locator(".headline-line").inner_text()
        assert page.locator(".why").count() == 0
        page.locator("#row-0\\.7").click()
        page.evaluate("document.querySelector('[role=tree]').scrollTop = 250")
        wait(page, "document.querySelector('[role=tree]').scrollTop === 250")

        recording.start("0.60", 7.0, "Count the words of document 60")
        recording.think("0.7", 1, 7.0, 7.5, "```python\nfinish(3)\n```", [])
        recording.run_cell("0.7", 1, 7.5, 7.6, "finish(3)", "the output of the cell\n")
        recording.end("0.7", 7.7, result=3)
        put(writer, recording)
        wait(page, "rao.store.run().order.length === 62")
        wait(page, "document.querySelector('#detail').innerText.includes('the output of the cell')")
        assert page.locator("[aria-selected=true]").get_attribute("id") == "row-0.7"
        assert "✓" in page.locator("#row-0\\.7").inner_text()
        assert page.evaluate("document.querySelector('[role=tree]').scrollTop") == 250
        assert page.locator(".connection").inner_text().strip("● ") == "live"
    wait(page, "document.querySelector('.connection').classList.contains('ended')")
    assert page.locator("#row-0\\.7").is_visible()


def test_follows_a_folder(show: Any, tmp_path: Path) -> None:
    first, second = trees.Recording("first"), trees.Recording("second")
    first.start("0", 0.0, "The first task")
    second.start("0", 0.0, "The second task")
    with writing(tmp_path / "a.jsonl", first) as one, ViewServer(tmp_path) as server:
        put(one, first)
        page = show.open(server.url, origin=server.url)
        page.wait_for_selector(".table-row")
        with writing(tmp_path / "b.jsonl", second) as two:
            put(two, second)
            wait(page, "document.querySelectorAll('.table-row').length === 2")
            page.locator(".table-row a", has_text="second").click()
            page.wait_for_selector(".headline-line")
            second.start("0.0", 1.0, "A part of the second task")
            put(two, second)
            wait(page, "rao.store.run().order.length === 2")
        page.locator("a.button", has_text="All runs").click()
        page.wait_for_selector(".table-row")
        for box in page.locator(".table-row input").all():
            box.check()
        page.get_by_role("button", name="Compare two").click()
        page.wait_for_selector(".sides")
        assert "pairs differ" in page.locator(".sides").inner_text()
        assert "compare=" in page.evaluate("location.hash")
        page.reload()
        page.wait_for_selector(".sides")
