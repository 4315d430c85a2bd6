"""Connections: used again, enough of them, none left behind."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.testing import Fault, FaultKind, Request, ScriptedEndpoint
from tests.waiting import PATIENCE, until

from .conftest import USER, serving


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def ask(model: Any, on_text: Any = None) -> Any:
    conversation = model.conversation()
    conversation.add(USER)
    return await conversation.complete(max_tokens=20, on_text=on_text)


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_calls_one_after_the_other_share_one_connection(interface: str, streamed: bool) -> None:
    async with serving("a stream of some length", interface=interface) as (endpoint, model):
        for _ in range(5):
            await ask(model, (lambda _: None) if streamed else None)
            assert endpoint.open_connections == 1


@pytest.mark.anyio
async def test_many_calls_at_once_are_all_under_way_together() -> None:
    count = 200
    everybody = asyncio.Barrier(count)

    async def script(request: Request) -> str:
        async with asyncio.timeout(PATIENCE):
            await everybody.wait()
        return "x"

    async with serving(script) as (endpoint, model):
        async with anyio.create_task_group() as group:
            for _ in range(count):
                group.start_soon(ask, model)
        assert endpoint.ledger.max_concurrency == count
        assert endpoint.ledger.calls == count


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_cancelling_a_call_closes_its_connection(interface: str, streamed: bool) -> None:
    async with serving(Fault(FaultKind.HANG), interface=interface) as (endpoint, model):
        before = open_files()
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask, model, (lambda _: None) if streamed else None)
            await until(lambda: endpoint.ledger.running == 3)
            group.cancel_scope.cancel()
        await until(lambda: endpoint.ledger.running == 0)
        await model.aclose()
        await until(lambda: endpoint.open_connections == 0)
        # One more, for the tokenizer's connection may have been opened before.
        await until(lambda: open_files() <= before + 1)
        assert endpoint.ledger.lost_tokens > 0


@pytest.mark.anyio
async def test_closing_leaves_no_descriptor_and_may_be_repeated() -> None:
    async with serving("x") as (endpoint, model):
        before = open_files()
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(ask, model)
        await model.aclose()
        await model.aclose()
        await until(lambda: endpoint.open_connections == 0)
        await until(lambda: open_files() <= before)
        assert (await ask(model)).text == "x", "it opens again"


@pytest.mark.anyio
async def test_failed_calls_leave_no_descriptor() -> None:
    for kind in (FaultKind.DROP, FaultKind.CUT, FaultKind.GARBLED):
        async with serving(Fault(kind)) as (endpoint, model):
            before = open_files()
            for on_text in (None, lambda _: None):
                with pytest.raises(ConnectionError):
                    await ask(model, on_text)
            await model.aclose()
            await until(lambda endpoint=endpoint: endpoint.open_connections == 0)
            await until(lambda before=before: open_files() <= before)


def test_one_model_serves_several_event_loops_in_turn(anyio_backend: str) -> None:
    with ScriptedEndpoint("x") as endpoint:
        model = connect(resolve_endpoint("scripted", endpoint.base_url))

        async def once() -> str:
            try:
                return str((await ask(model)).text)
            finally:
                await model.aclose()

        assert [anyio.run(once, backend=anyio_backend) for _ in range(3)] == ["x"] * 3


@pytest.mark.anyio
async def test_a_proxy_never_stands_before_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with serving("x") as (_, model):
        assert (await ask(model)).text == "x"


@pytest.mark.anyio
async def test_an_exception_in_the_listener_ends_the_call_and_frees_the_connection() -> None:
    class Listener(Exception):
        pass

    def on_text(text: str) -> None:
        raise Listener

    async with serving("some words that stream") as (endpoint, model):
        with pytest.raises(Listener):
            await ask(model, on_text)
        await model.aclose()
        await until(lambda: endpoint.open_connections == 0)


@pytest.mark.anyio
async def test_a_call_costs_little_host_time() -> None:
    """Far above what it takes (about 1 ms): a guard against parsing answers into models, not a benchmark."""
    async with serving("x") as (_, model):
        await ask(model)
        started = time.process_time()
        for _ in range(50):
            await ask(model)
        assert (time.process_time() - started) / 50 < 0.02


def test_importing_the_package_does_not_import_the_sdk() -> None:
    import subprocess
    import sys

    code = "import sys, recursive_agent.model; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False).returncode == 0
