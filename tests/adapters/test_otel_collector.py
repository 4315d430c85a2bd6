"""A real collector (rotel) between us and a real server that stores traces (Arize Phoenix): what comes out is what went in."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import anyio
import pytest

from recursive_agent.testing import ScriptedEndpoint, by_goal
from recursive_agent.trace.otel import export_trace, telemetry
from recursive_agent.trace.otel.export import readable_spans
from recursive_agent.trace.otel.setup import service, span_exporter
from recursive_agent.trace.store import read_events
from tests.agent.helpers import agent_on, py

from .conftest import python_of

pytestmark = pytest.mark.anyio

TREE = {
    "root": [
        py("import asyncio\nprint(await asyncio.gather(launch_subagent('one'), launch_subagent('two')))"),
        py("finish(1)"),
    ],
    "one": [py("1/0"), py("finish(1)")],
    "two": [py("finish(2)")],
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], log: Path, **environment: str) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment})
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def get(url: str) -> Any:
    """The answer of a server; None where it does not answer yet."""
    try:
        with urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except (URLError, ConnectionError, TimeoutError):
        return None


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """URLs of the collector and of the store that it sends to."""
    python = Path(python_of("RAO_OTEL_PYTHON", "otel"))
    folder = tmp_path_factory.mktemp("collector")
    (agent,) = python.parents[1].glob("lib/python*/site-packages/rotel/rotel-agent")
    store, grpc, http, other = (free_port() for _ in range(4))
    with ExitStack() as stack:
        phoenix = {"PHOENIX_WORKING_DIR": str(folder), "PHOENIX_PORT": str(store), "PHOENIX_GRPC_PORT": str(grpc)}
        command = [str(python.parent / "phoenix"), "serve"]
        stack.enter_context(started(command, folder / "phoenix.log", PHOENIX_TELEMETRY_ENABLED="false", **phoenix))
        command = [
            *(
                str(agent),
                "start",
                "--otlp-http-endpoint",
                f"127.0.0.1:{http}",
                "--otlp-grpc-endpoint",
                f"127.0.0.1:{other}",
            ),
            *("--exporter", "otlp", "--otlp-exporter-protocol", "http"),
            *("--otlp-exporter-endpoint", f"http://127.0.0.1:{store}"),
        ]
        stack.enter_context(started(command, folder / "rotel.log"))
        yield f"http://127.0.0.1:{http}", f"http://127.0.0.1:{store}"


async def until(condition: Callable[[], object]) -> None:
    """Return once `condition()` holds; a server of many packages takes its time to start."""
    with anyio.fail_after(600):
        while not await anyio.to_thread.run_sync(condition):
            await anyio.sleep(0.2)


def stored(store: str) -> dict[str, Any]:
    """All spans that the store has, by id."""
    found: dict[str, Any] = {}
    cursor = ""
    while (page := get(f"{store}/v1/projects/default/spans?limit=100{cursor}")) is not None:
        found |= {span["context"]["span_id"]: span for span in page["data"]}
        if not page["next_cursor"]:
            break
        cursor = f"&cursor={page['next_cursor']}"
    return found


async def test_a_run_and_its_record_are_one_trace_in_the_store(servers: tuple[str, str], tmp_path: Path) -> None:
    collector, store = servers
    await until(lambda: get(f"{store}/v1/projects") is not None)
    async with ScriptedEndpoint(by_goal(TREE)) as endpoint:
        with telemetry(collector) as observer:
            agent = agent_on(endpoint, trace_dir=tmp_path, observers=[observer])
            result = await agent.solve("root", score=lambda node: 1.0)
    assert result.trace_path is not None
    sent = {
        f"{span.context.span_id:016x}": span for span in readable_spans(read_events(result.trace_path)) if span.context
    }
    await until(lambda: stored(store).keys() >= sent.keys())
    exporter = span_exporter(collector)
    assert exporter is not None
    export_trace(result.trace_path, exporter, resource=service())
    exporter.shutdown()
    marker = "another run"  # sent after it: when it is there, so is what was sent twice
    async with ScriptedEndpoint(by_goal({marker: [py("finish(1)")]})) as endpoint:
        with telemetry(collector) as observer:
            other = await agent_on(endpoint, observers=[observer]).solve(marker)
    await until(lambda: any(each["attributes"]["rao.run"] == other.tree.run for each in stored(store).values()))
    found = {name: span for name, span in stored(store).items() if span["attributes"]["rao.run"] == result.tree.run}
    assert found.keys() == sent.keys()
    for name, span in found.items():
        parent = sent[name].parent
        assert span["name"] == sent[name].name
        assert span["parent_id"] == (None if parent is None else f"{parent.span_id:016x}")
        assert span["status_code"] == sent[name].status.status_code.name
    used = [span["attributes"].get("gen_ai.usage.input_tokens", 0) for span in found.values()]
    assert sum(used) == result.usage.prompt_tokens
    assert {span["span_kind"] for span in found.values()} == {"AGENT", "LLM", "TOOL"}
