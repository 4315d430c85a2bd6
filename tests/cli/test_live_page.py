"""`--view`: a run as a process that is followed over real HTTP."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rao_cli import browser

from recursive_agent.testing import Request, ScriptedEndpoint, by_goal
from tests.viewer.sse import following, request
from tests.waiting import until

from .command import KEY, RAO, environment, rao

_URL = re.compile(r"http://127\.0\.0\.1:\d+/[\w-]+/")


def cell(code: str) -> str:
    return f"```python\n{code}\n```"


class Held:
    """A script in which sub-agents get no answer before `seen` is set."""

    def __init__(self, agents: int = 3) -> None:
        self.seen = threading.Event()
        self.agents = agents

    def script(self) -> Any:
        gathered = f"await asyncio.gather(*[launch_subagent(f'part {{i}}') for i in range({self.agents})])"
        return by_goal({"team": cell(f"import asyncio\nfinish(sum({gathered}))"), "part": self._held, "quick": _QUICK})

    async def _held(self, request: Request) -> str:
        await until(self.seen.is_set)
        return cell("finish(1)")


_QUICK = cell("finish(7)")


def _at(endpoint: ScriptedEndpoint) -> dict[str, str]:
    return environment(OPENAI_BASE_URL=endpoint.base_url, OPENAI_API_KEY=KEY, RAO_MODEL="scripted")


def _url_in(lines: Iterator[str]) -> str:
    for line in lines:
        if found := _URL.search(line):
            return found[0]
    raise AssertionError("no URL on stderr")


@contextmanager
def _running(*arguments: str, endpoint: ScriptedEndpoint, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*RAO, *arguments],
        cwd=cwd,
        env=_at(endpoint),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_page_follows_a_run_and_keeps_its_last_state(tmp_path: Path) -> None:
    held = Held(agents=5)
    with (
        ScriptedEndpoint(held.script()) as endpoint,
        _running("run", "team", "--view", endpoint=endpoint, cwd=tmp_path) as process,
    ):
        assert process.stderr is not None
        url = _url_in(process.stderr)
        assert request(url)[0] == 200
        with following(f"{url}events") as events:
            for _ in events:
                if len(events.page.nodes) == 6:
                    held.seen.set()
            page = events.page
        out, err = process.communicate(timeout=60)  # nobody sits at a terminal: it ends with the run
        assert (process.returncode, out) == (0, "5\n")
        assert "until you press" not in err
        assert page.head is not None
        assert page.head["complete"]
        assert {node["status"] for node in page.nodes.values()} == {"finished"}
        [trace] = (tmp_path / "traces").iterdir()
        assert page.bye == f"The run has ended. To see it again: rao trace view traces/{trace.name}"


def test_a_run_whose_page_nobody_opens_ends_by_itself(tmp_path: Path) -> None:
    with ScriptedEndpoint(Held().script()) as endpoint:
        done = rao("run", "quick", "--view", "--quiet", cwd=tmp_path, env=_at(endpoint))
    assert (done.returncode, done.stdout) == (0, "7\n")
    assert _URL.search(done.stderr)


def test_a_resumed_run_is_followed_from_its_beginning(tmp_path: Path) -> None:
    script = by_goal({"count": [cell("x = 1"), cell("x += 1"), cell("finish(x)")]})
    with ScriptedEndpoint(script) as endpoint:
        assert rao("run", "count", "--max-steps", "2", cwd=tmp_path, env=_at(endpoint)).returncode == 1
    [trace] = (tmp_path / "traces").iterdir()
    elsewhere = trace.rename(tmp_path / trace.name)
    release = threading.Event()

    async def last(request: Request) -> str:
        await until(release.is_set)
        return cell("finish(x)")

    arguments = ("resume", elsewhere.name, "--max-steps", "5", "--view")
    with ScriptedEndpoint(last) as endpoint, _running(*arguments, endpoint=endpoint, cwd=tmp_path) as process:
        assert process.stderr is not None
        with following(f"{_url_in(process.stderr)}events") as events:
            for _ in events:
                if events.page.nodes and events.page.head and events.page.head["resumptions"]:
                    release.set()
            steps = events.page.nodes["0"]["steps"]
        assert (process.wait(60), [step["number"] for step in steps]) == (0, [1, 2, 3])


def test_on_a_terminal_the_page_stays_until_ctrl_c(tmp_path: Path) -> None:
    with ScriptedEndpoint(Held().script()) as endpoint:
        ours, theirs = pty.openpty()
        env = {**_at(endpoint), "TERM": "dumb", "DISPLAY": "", "WAYLAND_DISPLAY": "", "BROWSER": "", "CI": ""}
        process = subprocess.Popen(
            [*RAO, "run", "quick", "--view"], cwd=tmp_path, env=env, stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        shown = bytearray()
        try:
            while b"until you press Ctrl-C" not in shown:
                shown += os.read(ours, 4096)
            url = _URL.search(shown.decode())
            assert url is not None
            assert request(url[0])[0] == 200
            with following(f"{url[0]}events") as events:
                events.next()
                assert events.page.nodes["0"]["result"] == "7"
                process.send_signal(signal.SIGINT)
                for _ in events:
                    pass
            assert (events.page.bye or "").startswith("The run has ended.")
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            os.close(ours)


def test_a_taken_port_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with ScriptedEndpoint(Held().script()) as endpoint, socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = rao("run", "quick", "--view", "--view-port", port, cwd=tmp_path, env=_at(endpoint))
        assert (done.returncode, endpoint.requests) == (2, [])
        assert f"port {port}" in done.stderr
        alone = rao("run", "quick", "--view-port", "0", cwd=tmp_path, env=_at(endpoint))
        assert alone.returncode == 2
        assert "add --view" in alone.stderr


@pytest.mark.skipif(sys.platform == "darwin", reason="there is always a browser")
@pytest.mark.parametrize(
    ("variables", "there"),
    [({}, False), ({"DISPLAY": ":0"}, True), ({"WAYLAND_DISPLAY": "wayland-0"}, True), ({"BROWSER": "firefox"}, True)],
)
def test_a_browser_is_opened_only_where_windows_are(variables: dict[str, str], there: bool) -> None:
    assert browser.has_browser(variables) is there


def test_nothing_is_opened_where_nobody_sits_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/bin/false %s")
    assert not browser.open_browser("http://127.0.0.1:1/")


def test_a_run_without_a_page_imports_no_server(tmp_path: Path) -> None:
    code = "import sys, rao_cli.commands.run; sys.exit(any('viewer' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0
