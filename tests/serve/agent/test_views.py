"""Runs of a server in the browser: signed links, and the page that follows a run."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import httpx2
import pytest

from rao_rl.serve.agent import links as agent_links
from rao_rl.serve.agent.links import Links
from tests.agent.helpers import py
from tests.waiting import until

from .agents import AGENT, KEY, served
from .test_chat import said
from .test_runs import Held, asked

pytestmark = pytest.mark.anyio

BODY = {"model": AGENT, "messages": said("x")}


def _merged(known: dict[str, Any], text: str) -> str | None:
    """Take in the events of a piece of the stream; the id of the last one."""
    last = None
    for part in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in part.splitlines() if not line.startswith(":"))
        if fields.get("event") == "nodes":
            known.update({node["id"]: node for node in json.loads(fields["data"])["nodes"]})
            last = fields["id"]
        elif fields:
            known[fields["event"]] = json.loads(fields["data"])
    return last


async def test_a_run_is_followed_in_a_browser_without_a_key_until_it_ends(tmp_path: Path) -> None:
    held = Held()
    async with served(held, tmp_path) as server, httpx2.AsyncClient(timeout=60) as browser:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: server.http.post("/v1/chat/completions", json=BODY))
            await until(asked(server, 3))
            [run] = [each["id"] for each in (await server.http.get("/v1/runs")).json()["data"]]
            link = (await server.http.get(f"/v1/runs/{run}/view")).json()
            assert (link["run"], link["object"]) == (run, "agent.view")
            page = await browser.get(link["url"])
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
            assert str(tmp_path) not in page.text
            known: dict[str, Any] = {}
            async with browser.stream("GET", f"{link['url']}events") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert stream.headers["referrer-policy"] == "no-referrer"
                text = ""
                async for piece in stream.aiter_text():
                    text += piece
                    whole, _, text = text.rpartition("\n\n")
                    _merged(known, whole)
                    if {"0", "0.0", "0.1"} <= known.keys():
                        held.release()
                    if known.get("0", {}).get("status") == "finished":
                        break
            assert {known[name]["status"] for name in ("0", "0.0", "0.1")} == {"finished"}
        again = (await server.http.get(f"/v1/runs/{run}/view")).json()
        assert (await browser.get(again["url"])).status_code == 200  # a run that is over can be looked at too


async def test_a_link_needs_a_key_and_opens_one_run_alone(tmp_path: Path) -> None:
    async with (
        served(py("finish(1)"), tmp_path) as server,
        httpx2.AsyncClient(base_url=server.url, timeout=60) as browser,
    ):
        runs = [(await server.http.post("/v1/chat/completions", json=BODY)).headers["x-rao-run"] for _ in range(2)]
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert (await browser.get(f"/v1/runs/{runs[0]}/view", headers=headers)).status_code == 401
        url = (await server.http.get(f"/v1/runs/{runs[0]}/view")).json()["url"]
        assert KEY not in url
        link = url.rstrip("/").rpartition("/")[2]
        wrong = [link.replace(runs[0], runs[1]), link[:-1], f"{link}x", "x", f"{runs[0]}..", link.replace(".", ".9", 1)]
        for text in wrong:
            for path in ("", "events"):
                refused = await browser.get(f"/view/{text}/{path}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "invalid_link"), text
        for path in (
            f"/v1/traces/{runs[0]}",
            "/v1/runs",
            "/metrics",
            "/view",
            "/view/../v1/runs",
        ):  # no key to the rest
            assert (await browser.get(path)).status_code == 401
        assert (await server.http.get("/v1/runs/ffff/view")).status_code == 404
        assert (await server.http.get("/v1/runs/..%2Fx/view")).status_code == 404


async def test_a_link_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(py("finish(1)"), tmp_path) as server:
        run = (await server.http.post("/v1/chat/completions", json=BODY)).headers["x-rao-run"]
        link = (await server.http.get(f"/v1/runs/{run}/view")).json()
        late = link["expires_at"] + 1
        assert (await server.http.get(link["url"])).status_code == 200
        monkeypatch.setattr(agent_links, "time", SimpleNamespace(time=lambda: late))
        assert (await server.http.get(link["url"])).status_code == 403
        assert (await server.http.get(f"{link['url']}events")).status_code == 403


async def test_a_server_that_ends_tells_pages_and_does_not_wait_for_them(tmp_path: Path) -> None:
    known: dict[str, Any] = {}
    async with httpx2.AsyncClient(timeout=60) as browser, anyio.create_task_group() as group:
        async with served(py("finish(1)"), tmp_path, settings={"drain_seconds": 3600.0}) as server:
            run = (await server.http.post("/v1/chat/completions", json=BODY)).headers["x-rao-run"]
            url = (await server.http.get(f"/v1/runs/{run}/view")).json()["url"]

            async def follow() -> None:
                async with browser.stream("GET", f"{url}events") as stream:
                    text = ""
                    async for piece in stream.aiter_text():
                        text += piece
                        whole, _, text = text.rpartition("\n\n")
                        _merged(known, whole)

            group.start_soon(follow)
            await until(lambda: "0" in known)
    assert known["bye"] == {"reason": "The server is shutting down."}


def test_a_link_of_another_process_is_refused() -> None:
    one, other = Links(), Links()
    link = one.make("abc")
    assert (one.run_of(link.text), other.run_of(link.text)) == ("abc", None)
    assert one.run_of(one.make("abc", lasts=-1).text) is None
    for text in ("", ".", "..", "abc", "abc.1.", "é.1.x", "abc.9999999999.AAAA", "\ud800.1.x"):
        assert one.run_of(text) is None
