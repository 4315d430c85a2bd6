"""A client's trace goes on in the agent that it asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recursive_agent import OpenTelemetry
from recursive_agent.testing import replies
from tests.agent.helpers import py
from tests.trace.spans import in_memory

from .agents import AGENT, served

pytestmark = pytest.mark.anyio

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize("streamed", [False, True])
async def test_the_run_of_a_request_stands_under_the_span_of_its_client(tmp_path: Path, streamed: bool) -> None:
    provider, memory = in_memory()
    more: dict[str, Any] = {"observers": [OpenTelemetry(provider)]}
    async with served(replies([py("finish(1)")] * 2), tmp_path, **more) as server:
        body = {"model": AGENT, "messages": [{"role": "user", "content": "goal"}], "stream": streamed}
        for headers in ({"traceparent": f"00-{TRACE}-{SPAN}-01"}, {}):
            answer = await server.http.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
    roots = [span for span in memory.get_finished_spans() if span.name == "invoke_agent rao"]
    assert len(roots) == 2
    asked, alone = sorted(roots, key=lambda span: span.parent is None)
    assert asked.context is not None
    assert asked.parent is not None
    assert (f"{asked.context.trace_id:032x}", f"{asked.parent.span_id:016x}") == (TRACE, SPAN)
    assert alone.parent is None
    assert server.trees()[0].settings["otel"] == {"traceparent": f"00-{TRACE}-{SPAN}-01"}
