"""vLLM as a child process: when it is ready, how it ends, and that nothing of it stays."""

from __future__ import annotations

import os
import signal
import socket
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from rao_rl.errors import VllmEnded
from rao_rl.serve.vllm.command import Served, Vllm, VllmCommand
from rao_rl.serve.vllm.process import vllm_running
from recursive_agent import ConfigurationError
from recursive_agent.model.embedded import SHIPPED
from tests.waiting import until, wait_until

from .standin import StandIn

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def vllm(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture
def command(vllm: StandIn) -> VllmCommand:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found, served = Vllm.find(str(vllm.python)), Served.find(str(SHIPPED))
    return VllmCommand(vllm=found, served=served, host="127.0.0.1", port=port, api_keys=("k",))


async def test_it_runs_while_the_block_lasts_and_its_log_is_told_line_by_line(
    vllm: StandIn, command: VllmCommand
) -> None:
    lines: list[str] = []
    async with vllm_running(command, on_line=lines.append) as server:
        await server.ready()
        assert not server.ended.is_set()
        assert not vllm.gone()
    assert server.ended.is_set()
    assert server.status == 0
    wait_until(vllm.gone)
    assert lines[:2] == ["INFO loading weights", "INFO weights are loaded"]
    assert lines[-1] == "the server stops"
    assert list(server.lines) == lines[-30:]


async def test_one_that_ends_instead_of_getting_ready_says_how(
    vllm: StandIn, command: VllmCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_MANNER", "fails")
    with pytest.raises(VllmEnded, match="status 1") as ended:
        async with vllm_running(command) as server:
            await server.ready()
    assert ended.value.status == 1
    assert ended.value.lines[-1] == "ValueError: no room for the KV cache"
    wait_until(vllm.gone)  # its helper too, which it left behind


async def test_what_goes_wrong_in_the_block_comes_out_as_it_is(vllm: StandIn, command: VllmCommand) -> None:
    async def fail() -> None:
        async with vllm_running(command):
            assert vllm.told["pids"]
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    wait_until(vllm.gone)


async def test_cancellation_stops_it(vllm: StandIn, command: VllmCommand) -> None:
    with anyio.CancelScope() as scope:
        async with vllm_running(command) as server:
            await server.ready()
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    wait_until(vllm.gone)


async def test_one_that_does_not_stop_is_killed(
    vllm: StandIn, command: VllmCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_MANNER", "stubborn")
    monkeypatch.setattr("rao_rl.serve.vllm.process._GRACE", 0.2)
    async with vllm_running(command) as server:
        await server.ready()
    assert server.status == 128 + signal.SIGKILL
    assert vllm.told["signals"] == [signal.SIGTERM]
    wait_until(vllm.gone)


async def test_signals_are_passed_on_until_somebody_else_heeds_them(
    vllm: StandIn, command: VllmCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STANDIN_MANNER", "stubborn")
    async with vllm_running(command, signals=[signal.SIGHUP]) as server:
        await server.ready()
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: vllm.told["signals"] == [signal.SIGHUP])
        assert server.signals == [signal.SIGHUP]
        before = signal.getsignal(signal.SIGHUP)
        server.heed_no_more()
        await until(lambda: signal.getsignal(signal.SIGHUP) != before)
        server.send_signal(signal.SIGTERM)
        with anyio.fail_after(60):
            await server.ended.wait()
    assert server.status == 1


async def test_a_program_that_cannot_be_started_is_one_sentence(command: VllmCommand) -> None:
    with pytest.raises(ConfigurationError, match="/nowhere/python cannot be started"):
        async with vllm_running(replace(command, vllm=Vllm("/nowhere/python", ()))):
            pass
