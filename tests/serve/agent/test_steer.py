"""Runs under way over the API: seen, paused, told something, cut in part, and their calls approved."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent import Approve
from tests.agent.helpers import py
from tests.waiting import PATIENCE, until

from .agents import AGENT, Served, served
from .test_chat import said
from .test_runs import Held

pytestmark = pytest.mark.anyio

SEND = py("try:\n    finish(await send_mail(to='ann'))\nexcept ToolError as error:\n    finish(str(error))")


def send_mail(to: str) -> str:
    """Send a mail."""
    return f"sent to {to}"


class Asked:
    """A request to the agent under way, and its answer."""

    def __init__(self) -> None:
        self.answer: dict[str, Any] = {}


@asynccontextmanager
async def asking(server: Served) -> AsyncIterator[Asked]:
    """Ask the agent beside the block, which must see to it that the run ends."""
    asked = Asked()

    async def ask() -> None:
        body = {"model": AGENT, "messages": said("root")}
        asked.answer = (await server.http.post("/v1/chat/completions", json=body)).json()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            yield asked


async def the_run(server: Served, ready: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """The only run, once it is as it should be."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = (await server.http.get("/v1/runs")).json()["data"]
        return bool(found and ready(found[0]))

    await until(there)
    return found[0]


def running(state: dict[str, Any], agent: str) -> bool:
    return any(each["id"] == agent and each["status"] == "running" for each in state["agents"])


async def test_a_run_is_listed_paused_and_resumed(tmp_path: Path) -> None:
    script = Held(1)
    async with served(script, tmp_path) as server, asking(server) as asked:
        run = await the_run(server, lambda run: running(run, "0.0"))
        await until(lambda: len(server.endpoint.requests) == 2)
        assert run["status"] == "in_progress"
        assert [agent["goal"] for agent in run["agents"]] == ["root", "child 0"]
        path = f"/v1/runs/{run['id']}"
        assert (await server.http.post(f"{path}/pause", json={})).json()["status"] == "paused"
        script.release()
        await the_run(server, lambda run: run["status"] == "paused")
        assert not asked.answer
        assert (await server.http.post(f"{path}/resume", json={})).json()["status"] == "in_progress"
    assert asked.answer["choices"][0]["message"]["content"] == "1"
    [tree] = server.trees()
    assert [event.action for event in tree.steered] == ["pause", "resume"]


async def test_an_agent_is_told_something_and_another_is_cancelled(tmp_path: Path) -> None:
    def script(request: Any) -> Any:
        if "Goal: root" in request.first:
            code = "found = await asyncio.gather(*[launch_subagent(f'child {n}') for n in range(2)], return_exceptions=True)"
            return py(f"{code}\nfinish([str(each) for each in found])")
        return held(request)

    held = Held()
    async with served(script, tmp_path) as server, asking(server) as asked:
        run = await the_run(server, lambda run: running(run, "0.0") and running(run, "0.1"))
        path = f"/v1/runs/{run['id']}/agents"
        told = await server.http.post(f"{path}/0.0/messages", json={"content": "Be quick."})
        assert told.status_code == 200
        cut = await server.http.post(f"{path}/0.1/cancel", json={"reason": "too dear"})
        assert cut.status_code == 200
        await the_run(server, lambda run: not running(run, "0.1"))
        for agent, status, code in (("0.1", 409, "agent_ended"), ("0.7", 404, "agent_not_found")):
            again = await server.http.post(f"{path}/{agent}/cancel", json={})
            assert (again.status_code, again.json()["error"]["code"]) == (status, code)
        held.release()
    assert "too dear" in asked.answer["choices"][0]["message"]["content"]
    [tree] = server.trees()
    assert [(event.action, event.node) for event in tree.steered][:2] == [("tell", "0.0"), ("cancel", "0.1")]


async def test_cancelling_the_root_gives_the_client_what_was_found(tmp_path: Path) -> None:
    def script(request: Any) -> Any:
        if "Goal: root" in request.first:
            return py("await asyncio.gather(launch_subagent('quick'), launch_subagent('child'))")
        return py("finish('found')") if "Goal: quick" in request.first else held(request)

    held = Held()
    async with served(script, tmp_path) as server, asking(server) as asked:
        run = await the_run(server, lambda run: len(run["agents"]) == 3 and not running(run, "0.0"))
        assert (await server.http.post(f"/v1/runs/{run['id']}/agents/0/cancel", json={})).status_code == 200
    assert asked.answer["rao"]["status"] == "cancelled"
    assert asked.answer["rao"]["partial"] == [{"goal": "quick", "result": "found"}]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"approve": True}, "sent to ann"),
        ({"approve": True, "arguments": {"to": "bob"}}, "sent to bob"),
        ({"approve": False, "reason": "no mails today"}, "did not approve this call: no mails today"),
    ],
    ids=["yes", "changed", "no"],
)
async def test_a_call_waits_until_a_client_answers(tmp_path: Path, answer: dict[str, Any], said: str) -> None:
    approve = partial(Approve, tools=["send_mail"])
    async with served(SEND, tmp_path, approve=approve, tools=[send_mail]) as server:
        async with asking(server) as asked:
            run = await the_run(server, lambda run: run["approvals"] == 1)
            path = f"/v1/runs/{run['id']}/approvals"
            [call] = (await server.http.get(path)).json()["data"]
            assert (call["agent"], call["kind"], call["name"], call["arguments"]) == (
                "0",
                "tool",
                "send_mail",
                {"to": "ann"},
            )
            assert call["usage"]["calls"] == call["run_usage"]["calls"] == 1
            wrong = await server.http.post(f"{path}/{call['id']}", json={"approve": "yes"})
            assert wrong.status_code == 400
            assert (await server.http.post(f"{path}/{call['id']}", json=answer)).status_code == 200
        assert said in asked.answer["choices"][0]["message"]["content"]
        [tree] = server.trees()
        assert [each.allowed for each in tree.approvals] == [answer["approve"]]
        again = await server.http.post(f"{path}/{call['id']}", json=answer)
        assert (again.status_code, again.json()["error"]["code"]) == (404, "run_not_found")


async def test_an_answer_that_comes_twice_or_too_late_is_a_conflict(tmp_path: Path) -> None:
    approve = partial(Approve, tools=True)
    async with served(SEND, tmp_path, approve=approve, tools=[send_mail]) as server:
        async with asking(server):
            run = await the_run(server, lambda run: run["approvals"] == 1)
            path = f"/v1/runs/{run['id']}"
            late = await server.http.post(f"{path}/approvals/0:999", json={"approve": True})
            assert (late.status_code, late.json()["error"]["code"]) == (409, "approval_not_pending")
            assert (await server.http.post(f"{path}/agents/0/cancel", json={})).status_code == 200
        assert (await server.http.get(path)).status_code == 404


async def test_who_has_no_key_or_sends_no_json_steers_nothing(tmp_path: Path) -> None:
    script = Held(1)
    async with served(script, tmp_path) as server, asking(server) as asked:
        run = await the_run(server, lambda run: running(run, "0.0"))
        path = f"/v1/runs/{run['id']}/pause"
        for headers, status in (({"Authorization": "Bearer wrong"}, 401), ({"Content-Type": "text/plain"}, 400)):
            refused = await server.http.post(path, content=b"{}", headers=headers)
            assert refused.status_code == status
        assert (await server.http.get("/v1/runs", headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await server.http.post("/v1/runs/abc/pause", json={})).status_code == 404
        blank = await server.http.post(f"/v1/runs/{run['id']}/agents/0/messages", json={"content": " "})
        assert blank.status_code == 400
        assert (await the_run(server, bool))["status"] == "in_progress"
        script.release()
    assert asked.answer["choices"][0]["message"]["content"] == "1"
