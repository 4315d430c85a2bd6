"""`Agent.variant`: other settings over the same connection and sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from recursive_agent import ConfigurationError, Limits
from recursive_agent.repl.host import ProcessSandbox
from recursive_agent.testing import ScriptedEndpoint

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio


async def test_a_variant_differs_in_what_was_given_and_shares_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    enter = ProcessSandbox.__aenter__

    async def counted(self: ProcessSandbox) -> ProcessSandbox:
        opened.append(self)
        return await enter(self)

    monkeypatch.setattr(ProcessSandbox, "__aenter__", counted)

    async def look() -> str:
        return "seen"

    with ScriptedEndpoint(py("finish(await look())")) as endpoint:
        agent = agent_on(endpoint, instructions="Be brief.", sampling={"temperature": 0.5, "top_p": 0.9})
        async with agent:
            other = agent.variant(tools=[look], limits=Limits(max_steps=3), sampling={"temperature": 1.0})
            result = await other.solve("look")
            connections = endpoint.open_connections
            await other.solve("look again")
            assert endpoint.open_connections == connections == 1
        assert [type(one) for one in opened] == [ProcessSandbox]
        [request, _] = endpoint.requests
    assert result.output == "seen"
    assert (request.body["temperature"], request.body["top_p"]) == (1.0, 0.9)
    assert "Be brief." in request.text("system")
    assert result.tree.limits["max_steps"] == 3
    assert (agent.tools, agent.limits, agent.sampling.temperature) == ({}, Limits(), 0.5)
    assert agent.model_name == other.model_name == "scripted"


def test_settings_that_make_no_sense_are_refused() -> None:
    with ScriptedEndpoint("never asked") as endpoint:
        agent = agent_on(endpoint)
        with pytest.raises(ConfigurationError, match="prices"):
            agent.variant(limits=Limits(max_cost=1.0))
        with pytest.raises(ConfigurationError, match="temperature"):
            agent.variant(sampling={"temperature": -1})
