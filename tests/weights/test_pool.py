"""Pushes into several servers at once: all of them have the weights, or do not sample."""

from __future__ import annotations

import copy
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model

from rao_rl.config import SamplerConfig
from rao_rl.errors import WeightPushError
from rao_rl.weights.choose import open_sync
from rao_rl.weights.pool import PoolSync
from recursive_agent import EndpointUnavailable, PoolModel
from recursive_agent.model.base import Message

from ..train.policies import make_checkpoint
from .test_vllm import Server, moved

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/model/test_pool.py's."""
    return "asyncio"


@pytest.fixture
def policy(tokenizer: Any, tmp_path: Path) -> Any:
    return make_checkpoint(tmp_path / "served", tokenizer)


@pytest.fixture
def servers(policy: Any, tmp_path: Path) -> Iterator[list[Server]]:
    """Two that read one folder."""
    servers = [Server(tmp_path / "served") for _ in range(2)]
    for server in servers:
        server.http.start()
    yield servers
    for server in servers:
        server.http.stop()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.http.port}/v1"


@pytest.fixture
async def sync(servers: list[Server], policy: Any, tmp_path: Path) -> AsyncIterator[PoolSync[Any]]:
    """As a training run opens it."""
    config = SamplerConfig(
        name="vllm-reload",
        base_url=",".join(map(url, servers)),
        served_model="base",
        served_folder=str(tmp_path / "served"),
    )
    sync = open_sync(config, tmp_path / "served", policy)
    assert isinstance(sync, PoolSync)
    yield sync
    await sync.model.aclose()


async def sampled_by(pool: PoolModel[Any], count: int = 12) -> set[tuple[str | None, str | None]]:
    """Endpoint and version of answers to so many goals."""
    found = set()
    for number in range(count):
        conversation = pool.conversation()
        conversation.add(Message("user", f"goal {number}"))
        completion = await conversation.complete(max_tokens=2, seed=1)
        found.add((completion.endpoint, completion.version))
    return found


async def test_all_servers_get_the_weights_and_the_folder_that_they_share_is_rewritten_once(
    sync: PoolSync[Any], servers: list[Server], policy: Any
) -> None:
    weights = servers[0].directory / "model.safetensors"
    for version in (1, 2):
        before = weights.stat().st_ino
        push = await sync.push(moved(policy), version)
        assert (push.method, push.version) == ("vllm-reload", version)
        assert push.probe_error < 1e-3
        assert weights.stat().st_ino != before
        assert await sampled_by(sync.model) == {(url(server), str(version)) for server in servers}
    assert [server.routes.count("/collective_rpc") for server in servers] == [2, 2]
    assert servers[0].directory.joinpath("model.safetensors.partial").exists() is False


async def test_a_server_that_keeps_old_weights_samples_no_more_until_a_push_succeeds(
    sync: PoolSync[Any], servers: list[Server], policy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await sync.push(policy, 0)
    servers[1].frozen = True
    push = await sync.push(moved(policy), 1)
    assert push.version == 1
    (line,) = [record.getMessage() for record in caplog.records if record.name == "rao_rl.weights.pool"]
    assert line.startswith(
        f"{url(servers[1])} is taken out of the pool until a push succeeds: The sampler base does not"
    )
    assert await sampled_by(sync.model) == {(url(servers[0]), "1")}
    servers[1].frozen = False
    await sync.push(policy, 2)
    assert caplog.records[-1].getMessage() == f"{url(servers[1])} is in the pool again, with the weights of version 2."
    assert await sampled_by(sync.model) == {(url(server), "2") for server in servers}


async def test_a_server_that_was_away_does_not_sample_before_the_next_push(
    sync: PoolSync[Any], servers: list[Server], policy: Any
) -> None:
    await sync.push(policy, 0)
    servers[0].http.stop()
    await sync.push(moved(policy), 1)  # it is missed by the push
    assert await sampled_by(sync.model) == {(url(servers[1]), "1")}
    servers[0].http.start()
    assert await sampled_by(sync.model) == {(url(servers[1]), "1")}
    await sync.push(policy, 2)
    assert await sampled_by(sync.model) == {(url(server), "2") for server in servers}
    servers[1].http.stop()
    assert await sampled_by(sync.model) == {(url(servers[0]), "2")}  # it is missed by a call
    servers[1].http.start()
    pool = sync.model
    pool.replicas._clock = lambda: 1e9
    assert await sampled_by(pool) == {(url(servers[0]), "2")}


async def test_the_push_fails_where_no_server_is_left_and_names_them(
    sync: PoolSync[Any], servers: list[Server], policy: Any
) -> None:
    servers[0].broken = "/collective_rpc"
    servers[1].http.stop()
    with pytest.raises(WeightPushError, match="No replica has the weights of version 3") as raised:
        await sync.push(policy, 3)
    for server, why in zip(servers, ("out of memory", "gave no answer"), strict=True):
        assert f"{url(server)}: " in str(raised.value)
        assert why in str(raised.value)
    with pytest.raises(EndpointUnavailable, match="None of the 2 endpoints of base gave a usable answer"):
        await sampled_by(sync.model, 1)


async def test_every_server_gets_its_own_adapter(servers: list[Server], policy: Any, tmp_path: Path) -> None:
    adapted = moved(get_peft_model(copy.deepcopy(policy), LoraConfig(r=2, target_modules=["q_proj"])))
    config = SamplerConfig(name="vllm-lora", base_url=",".join(map(url, servers)), served_model="base")
    sync = open_sync(config, tmp_path / "served", adapted)
    for version in range(4):
        push = await sync.push(moved(adapted, 0.01), version)
        assert push.probe_error < 1e-3
        assert await sampled_by(sync.model) == {(url(server), str(version)) for server in servers}  # type: ignore[arg-type]
    await sync.model.aclose()
    assert all(len(server.models) == 3 for server in servers)  # the base and the last two adapters
