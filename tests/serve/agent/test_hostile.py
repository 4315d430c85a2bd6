"""The server against requests that make no sense: found by schemathesis in the document, and made by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import anyio
import hypothesis
import psutil
import pytest
import schemathesis
from anyio.abc import ByteStream
from anyio.from_thread import start_blocking_portal
from anyio.streams.buffered import BufferedByteReceiveStream
from schemathesis.specs.openapi.checks import positive_data_acceptance

from recursive_agent import Limits
from recursive_agent.testing import ScriptedEndpoint
from tests.agent.helpers import py

from ..http.malformed import BODY_LIMIT, requests
from .agents import KEY, served

REQUESTS = 10_000
CONNECTIONS = 8
HELPERS = 16
"""The sandbox's zygote and the spares that it keeps ready are fewer."""
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """The document of an agent that answers whatever it is asked, in two steps at most."""
    traces = tmp_path_factory.mktemp("traces")

    @asynccontextmanager
    async def running() -> AsyncIterator[str]:
        async with served(py("finish({})"), traces, limits=Limits(max_steps=2)) as server:
            yield server.url

    with start_blocking_portal("asyncio") as portal, portal.wrap_async_context_manager(running()) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers=AUTHORIZED)


VALID = schemathesis.GenerationMode.POSITIVE
EXAMPLES = int(os.environ.get("RAO_TEST_EXAMPLES", "40"))
OPERATIONS = [
    *(
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/responses"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/{model}"),
    ),
    *(("GET", "/v1/traces/{run}"), ("GET", "/v1/runs/{run}/view"), ("GET", "/health"), ("GET", "/metrics")),
    *(("GET", f"/v1/runs{rest}") for rest in ("", "/{run}", "/{run}/approvals")),
    *(
        ("POST", f"/v1/runs/{{run}}/{rest}")
        for rest in ("pause", "resume", "agents/{agent}/cancel", "agents/{agent}/messages", "approvals/{call}")
    ),
]


def test_everything_is_in_the_document(document: schemathesis.BaseSchema) -> None:
    found = [result.ok() for result in document.get_all_operations()]
    assert {(operation.method.upper(), operation.path) for operation in found} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    # /health takes nothing that could be wrong, not even a key.
    [
        (*one, mode)
        for one in OPERATIONS
        for mode in schemathesis.GenerationMode
        if "/health" not in one or mode is VALID
    ],
)
def test_the_document_is_true(
    document: schemathesis.BaseSchema, method: str, path: str, mode: schemathesis.GenerationMode
) -> None:
    operation = document[path][method]
    answered: Counter[int] = Counter()

    @hypothesis.settings(
        max_examples=EXAMPLES if method == "POST" else 10,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def try_it(case: schemathesis.Case) -> None:
        # That the last message is the user's, or that a schema inside a request is one, no document can say.
        answer = case.call_and_validate(headers=AUTHORIZED, excluded_checks=[positive_data_acceptance])
        answered[answer.status_code] += 1

    try_it()
    assert answered


async def _answer(stream: BufferedByteReceiveStream) -> int:
    """The status of the next answer; its body is read and dropped."""
    head = (await stream.receive_until(b"\r\n\r\n", 65_536)).decode("latin-1").lower().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:])
    if "content-length" in headers:
        await stream.receive_exactly(int(headers["content-length"]))
    return int(head[0].split()[1])


async def _ask(url: str, share: list[bytes], statuses: Counter[int]) -> None:
    host, port = url.removeprefix("http://").split(":")
    stream: ByteStream = await anyio.connect_tcp(host, int(port))
    async with stream:
        answers = BufferedByteReceiveStream(stream)
        for request in share:
            await stream.send(request)
            status = await _answer(answers)
            assert 400 <= status < 500, (status, request[:300])
            statuses[status] += 1


@pytest.mark.anyio
async def test_ten_thousand_malformed_requests_change_nothing(tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        command = [
            sys.executable,
            "-m",
            "tests.serve.agent.agent_process",
            endpoint.base_url,
            str(traces),
            str(BODY_LIMIT),
        ]
        environment = {**os.environ, "SERVER_KEY": KEY}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
            assert server.stdout is not None
            assert server.stderr is not None
            try:
                url = server.stdout.readline().decode().strip()
                process = psutil.Process(server.pid)
                statuses: Counter[int] = Counter()
                made = requests(KEY)

                async def send(count: int) -> None:
                    async with anyio.create_task_group() as group:
                        for _ in range(CONNECTIONS):
                            group.start_soon(_ask, url, list(islice(made, count // CONNECTIONS)), statuses)

                await send(REQUESTS // 5)
                memory = process.memory_info().rss
                for _ in range(4):
                    await send(REQUESTS // 5)
                grown = process.memory_info().rss - memory
                assert len(process.children(recursive=True)) <= HELPERS
            finally:
                server.terminate()
                said = server.stderr.read().decode().splitlines()
                complaints = [line for line in said if not line.startswith("running as root")]
        assert endpoint.ledger.entries == []
    assert server.returncode == 0
    assert complaints == []
    assert not traces.exists()
    assert sum(statuses.values()) == REQUESTS
    assert set(statuses) == {400, 401, 404, 405, 413}
    assert min(statuses.values()) > 100
    assert grown < 8 << 20, f"{grown >> 10} KiB more after {REQUESTS} requests"
