"""Runs that are followed in a real browser while they go on."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.testing import Request, ScriptedEndpoint, by_goal
from recursive_agent.trace.store import TraceWriter
from recursive_agent.viewer.server import ViewServer
from tests.cli.command import KEY, RAO, environment
from tests.trace.events import model_called, node_ended, node_started, run_started
from tests.viewer.trees import Did, record
from tests.waiting import until

pytestmark = pytest.mark.browser

_AGENTS = 1 + 7 + 7 * 6
_PATIENCE = 60_000
"""Milliseconds: the run and the browser may share a busy machine."""


def _cell(code: str) -> str:
    return f"```python\n{code}\n```"


def _launches(goal: str, count: int) -> str:
    return f"found = await asyncio.gather(*[launch_subagent(f'{goal} {{i}}') for i in range({count})])"


def _until(page: Any, selector: str, text: str) -> None:
    """Wait until an element shows a text."""
    page.locator(selector, has_text=re.compile(text)).first.wait_for(timeout=_PATIENCE)


def test_a_run_of_fifty_agents_is_followed_to_its_end(show: Any, tmp_path: Path) -> None:
    seen = threading.Event()
    asked = iter(range(2))

    async def root(request: Request) -> str:
        if next(asked) == 0:
            return _cell("import asyncio\n" + _launches("lead", 7))
        await until(seen.is_set)
        return _cell("finish(sum(found))")

    lead = _cell(f"import asyncio\n{_launches('part', 6)}\nfinish(sum(found))")
    script = by_goal({"team": root, "lead": lead, "part": _cell("finish(1)")})
    with ScriptedEndpoint(script, api_key=KEY) as endpoint:
        env = environment(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="scripted")
        arguments = ["run", "team", "--view", "--max-agents", "60"]
        with subprocess.Popen(
            [*RAO, *arguments],
            cwd=tmp_path,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                assert process.stderr is not None
                found = next(filter(None, (re.search(r"http://\S+", line) for line in process.stderr)))
                url = found[0]
                rest = threading.Thread(target=process.stderr.read)  # so that the run is not held up by a full pipe
                rest.start()
                page = show.open(url, origin=url)
                _until(page, ".headline-line", f"{_AGENTS} agents")
                _until(page, ".connection", "live")
                seen.set()
                _until(page, ".headline-line", "finished")
                _until(page, ".connection", "ended")
                rest.join()
                assert process.wait(300) == 0
            finally:
                process.kill()
    page.locator("[role=tree]").focus()  # the server is gone, and the page is still there
    page.keyboard.press("End")
    assert "0.6" in page.locator("[role=treeitem][aria-selected=true]").get_attribute("id")
    assert "rao trace view" in page.locator("body").inner_text()


def test_runs_of_a_folder_appear_and_are_followed(show: Any, tmp_path: Path) -> None:
    folder = tmp_path / "traces"
    folder.mkdir()
    with TraceWriter(folder / "a.jsonl") as writer:
        for event in record(Did("the first goal"), run="aa"):
            writer.append(event)
    with ViewServer(folder) as server:
        page = show.open(server.url, origin=server.url)
        _until(page, "[role=table]", "the first goal")
        with TraceWriter(folder / "b.jsonl") as writer:
            writer.append(run_started(run="bb"))
            writer.append(node_started("0", goal="<img src=x onerror=alert(1)> the second goal"))
            _until(page, "[role=table]", "the second goal")
            page.get_by_text("the second goal").first.click()
            page.locator("[role=tree]").wait_for(timeout=_PATIENCE)
            writer.append(model_called("0", 1, text="let me see"))
            writer.append(node_started("0.0", step=1, call=0, goal="a part of it"))
            _until(page, "[role=tree]", "a part of it")
            writer.append(node_ended("0.0", 2.0, result=1))
            writer.append(node_ended("0", 3.0, result=1))
            _until(page, ".headline-line", "finished")
        assert page.locator("img").count() == 0
