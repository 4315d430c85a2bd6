"""Requests under way, over real sockets: running and waiting, streams, metrics, and the graceful end."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI

from rao_rl.serve.http import ServerSettings, make_app, serve, serving
from recursive_agent.errors import ConfigurationError
from tests.waiting import until

from .applications import Server, error_of

pytestmark = pytest.mark.anyio

# Running and waiting


async def test_requests_run_and_wait_in_order_and_the_rest_is_turned_away() -> None:
    server = Server(max_concurrency=2, max_queue=2)
    answers: list[int] = []

    async def ask(text: str) -> None:
        answers.append((await client.post("/work", json={"text": text})).status_code)

    async with server.client() as client:
        async with anyio.create_task_group() as group:
            for number, text in enumerate("abcd"):
                group.start_soon(ask, text)
                await until(lambda number=number: server.gate.running + server.gate.queued == number + 1)  # type: ignore[misc]
            assert (server.gate.running, server.gate.queued) == (2, 2)
            refused = await client.post("/work", json={"text": "e"})
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert error_of(refused)["code"] == "too_many_requests"
            assert server.begun == ["a", "b"]
            streamed = await client.post("/stream", json={"text": "f"})
            assert streamed.status_code == 429
            server.release.set()
        assert answers == [200] * 4
        assert server.begun == ["a", "b", "c", "d"]
        assert (server.gate.running, server.gate.queued) == (0, 0)
        assert (await client.post("/work", json={"text": "g"})).status_code == 200


@pytest.mark.parametrize("path", ["/work", "/stream"])
async def test_a_client_that_goes_ends_its_work_and_leaves_the_queue(path: str) -> None:
    server = Server(max_concurrency=1, max_queue=5)

    async def ask(text: str, *, task_status: Any) -> None:
        with anyio.CancelScope() as scope:
            task_status.started(scope)
            await client.post(path, json={"text": text})

    async with server.client() as client, anyio.create_task_group() as group:
        first = await group.start(ask, "first")
        await until(lambda: server.begun == ["first"])
        second = await group.start(ask, "second")
        await until(lambda: server.gate.queued == 1)
        await group.start(ask, "third")
        await until(lambda: server.gate.queued == 2)
        second.cancel()
        await until(lambda: server.gate.queued == 1)
        first.cancel()
        await until(lambda: server.begun == ["first", "third"])
        assert server.ended == ["first"]
        server.release.set()


# Streams


async def test_a_stream_gives_events_as_they_come() -> None:
    server = Server()
    async with server.client() as client:
        async with client.stream("POST", "/stream", json={"text": "held"}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.aiter_lines()
            assert await anext(lines) == 'data: {"said":"held"}'  # while the rest does not exist yet
            assert server.ended == []
            server.release.set()
            assert [line async for line in lines if line] == ["data: [DONE]"]


async def test_what_fails_before_the_first_event_has_a_status_of_its_own() -> None:
    async with Server().client() as client:
        response = await client.post("/stream", json={"text": "refused"})
    assert response.status_code == 400
    assert error_of(response)["param"] == "text"


@pytest.mark.parametrize(("text", "message"), [("fails", "the model is gone"), ("breaks", "log says why")])
async def test_what_fails_later_is_the_last_event(text: str, message: str) -> None:
    server = Server()
    async with server.client() as client:
        response = await client.post("/stream", json={"text": text})
        assert response.status_code == 200
        first, last = [line for line in response.text.split("\n\n") if line]
        assert first == f'data: {{"said":"{text}"}}'
        assert message in json.loads(last.removeprefix("data: "))["error"]["message"]
        assert "private" not in last
        await until(lambda: server.gate.running == 0)


async def test_a_quiet_stream_is_kept_alive() -> None:
    server = Server()
    async with server.client() as client, client.stream("POST", "/stream", json={"text": "pinged"}) as response:
        lines = response.aiter_lines()
        with anyio.fail_after(60):
            assert [await anext(lines) for _ in range(6)][2::2] == [": ping", ": ping"]
        server.release.set()
        assert [line async for line in lines if line and line != ": ping"] == ["data: [DONE]"]


async def test_a_stream_is_kept_alive_in_the_queue_too() -> None:
    server = Server(max_concurrency=1)

    async def first() -> None:
        assert (await client.post("/work", json={"text": "first"})).status_code == 200

    async with server.client() as client, anyio.create_task_group() as group:
        group.start_soon(first)
        await until(lambda: server.begun == ["first"])
        async with client.stream("POST", "/stream", json={"text": "pinged"}) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            with anyio.fail_after(60):
                assert [await anext(lines) for _ in range(4)][::2] == [": ping", ": ping"]
            assert (server.begun, server.gate.queued) == (["first"], 1)
            server.release.set()
            said = [line async for line in lines if line and line != ": ping"]
        assert said == ['data: {"said":"pinged"}', "data: [DONE]"]


async def test_what_fails_after_a_ping_is_an_event() -> None:
    server = Server()
    async with server.client() as client, client.stream("POST", "/stream", json={"text": "late"}) as response:
        assert response.status_code == 200
        server.release.set()
        (last,) = [line async for line in response.aiter_lines() if line and line != ": ping"]
        assert "the model is gone" in json.loads(last.removeprefix("data: "))["error"]["message"]


async def test_who_waits_in_vain_is_still_turned_away_with_a_status() -> None:
    server = Server(max_concurrency=1, max_queue=0)
    async with server.client() as client, anyio.create_task_group() as group:
        group.start_soon(lambda: client.post("/work", json={"text": "first"}))
        await until(lambda: server.begun == ["first"])
        assert (await client.post("/stream", json={"text": "pinged"})).status_code == 429
        server.release.set()


# Health and metrics


async def test_metrics_count_by_route_never_by_path() -> None:
    server = Server()
    async with server.client() as client:
        for number in range(20):
            await client.get(f"/things/{number}")
            await client.get(f"/nowhere/{number}")
            await client.request(f"ODD{number}", "/things/x")
        text = (await client.get("/metrics")).text
    counts = [line for line in text.splitlines() if line.startswith("rao_http_requests_total")]
    assert counts == [
        'rao_http_requests_total{route="/things/{name}",status="200"} 20.0',
        'rao_http_requests_total{route="other",status="404"} 20.0',
        'rao_http_requests_total{route="/things/{name}",status="405"} 20.0',
    ]
    assert 'rao_http_request_seconds_count{route="/things/{name}"} 40.0' in text


async def test_metrics_tell_what_runs_and_waits() -> None:
    server = Server(max_concurrency=1, max_queue=1)
    async with server.client() as client, anyio.create_task_group() as group:
        for text in "ab":
            group.start_soon(lambda text=text: client.post("/work", json={"text": text}))  # type: ignore[misc]
        await until(lambda: server.gate.queued == 1)
        lines = (await client.get("/metrics")).text.splitlines()
        assert {"rao_requests_running 1.0", "rao_requests_queued 1.0", "rao_http_requests_in_flight 3.0"} <= set(lines)
        server.release.set()


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_on_a_signal_what_runs_may_end_and_what_comes_is_told_to_come_again(number: signal.Signals) -> None:
    server = Server(drain_seconds=60)
    urls: list[str] = []
    answers: list[httpx2.Response] = []
    ended = anyio.Event()

    async def run() -> None:
        await serve(server.app, server.settings, ready=urls.append)
        ended.set()

    async def ask(path: str) -> None:
        answers.append(await client.post(path, json={"text": path}))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await until(lambda: urls)
        async with httpx2.AsyncClient(base_url=urls[0], timeout=60) as client:
            group.start_soon(ask, "/work")
            group.start_soon(ask, "/stream")
            await until(lambda: len(server.begun) == 2)
            os.kill(os.getpid(), number)
            await until(lambda: server.app.state.traffic.draining)
            refused = await client.post("/echo", json={"text": "late"})
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert error_of(refused)["code"] == "shutting_down"
            assert (await client.get("/health")).status_code == 503
            assert not ended.is_set()
            server.release.set()
            await until(lambda: len(answers) == 2)
        with anyio.fail_after(60):
            await ended.wait()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert server.bodies == []


async def test_what_a_server_has_loaded_is_not_gone_over_by_every_collection_of_garbage() -> None:
    server, before, frozen = Server(), gc.get_threshold(), []

    def ready(url: str) -> None:
        frozen.append(gc.get_freeze_count())
        os.kill(os.getpid(), signal.SIGTERM)

    await serve(server.app, server.settings, ready=ready)
    assert frozen[0] > 10_000
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, before)


async def test_a_second_signal_ends_what_runs() -> None:
    server = Server(drain_seconds=3600)
    urls: list[str] = []
    answers: list[int] = []

    async def ask() -> None:
        async with httpx2.AsyncClient(base_url=urls[0], timeout=60) as client:
            answers.append((await client.post("/work", json={"text": "long"})).status_code)

    async with anyio.create_task_group() as group:
        group.start_soon(lambda: serve(server.app, server.settings, ready=urls.append))
        await until(lambda: urls)
        group.start_soon(ask)
        await until(lambda: server.begun)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: server.app.state.traffic.draining)
        os.kill(os.getpid(), signal.SIGTERM)
    assert server.ended == ["long"]
    assert answers == [503]


async def test_what_runs_too_long_is_cancelled_in_the_end() -> None:
    server = Server(drain_seconds=0)
    answers: list[httpx2.Response] = []

    async def ask(url: str) -> None:
        async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
            answers.append(await client.post("/work", json={"text": "long"}))

    async with anyio.create_task_group() as group:
        async with serving(server.app, server.settings) as url:
            group.start_soon(ask, url)
            await until(lambda: server.begun)
        assert server.ended == ["long"]
    assert error_of(answers[0])["code"] == "shutting_down"


async def test_the_lifespan_surrounds_the_requests_and_its_failure_is_the_callers() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if told:
            raise ConfigurationError("no such model")
        told.append("begun")
        yield
        told.append("ended")

    app = make_app("test", ServerSettings(port=0), lifespan=lifespan)
    async with serving(app, ServerSettings(port=0)) as url:
        async with httpx2.AsyncClient(base_url=url) as client:
            assert (await client.get("/health")).status_code == 200
        assert told == ["begun"]
    assert told == ["begun", "ended"]
    with pytest.raises(ConfigurationError, match="no such model"):
        async with serving(app, ServerSettings(port=0)):
            pass
