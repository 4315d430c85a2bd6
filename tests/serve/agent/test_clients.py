"""An agent framework by others uses the agent as a model, by either protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import openai
import pytest
from pydantic import BaseModel
from pydantic_ai import Agent as OtherAgent
from pydantic_ai import NativeOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models import Model
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from recursive_agent.testing import by_goal
from tests.agent.helpers import py

from .agents import AGENT, Served, served

pytestmark = pytest.mark.anyio

SCRIPT = by_goal(
    {
        "the word": py("finish('marzipan')"),
        "go on": py("finish([turn['content'] for turn in context['conversation']])"),
        "count": py("finish({'total': await launch_subagent('part', returns=int)})"),
        "part": py("finish(4)"),
    }
)


class Total(BaseModel):
    total: int


@pytest.fixture(params=[OpenAIChatModel, OpenAIResponsesModel], ids=["chat", "responses"])
def model(request: pytest.FixtureRequest) -> Callable[[Served], Model]:
    def on(server: Served) -> Model:
        made: Model = request.param(AGENT, provider=OpenAIProvider(openai_client=server.client))
        return made

    return on


async def test_a_conversation(tmp_path: Path, model: Callable[[Served], Model]) -> None:
    async with served(SCRIPT, tmp_path) as server:
        agent = OtherAgent(model(server), instructions="Be brief.")
        question = "what is the word? (In a question of more than forty characters.)"
        first = await agent.run(question)
        second = await agent.run("go on", message_history=first.all_messages())
        usage = server.endpoint.ledger.total_tokens
        assert all("Be brief." in request.text("system") for request in server.endpoint.requests)
    assert first.output == "marzipan"
    assert second.output == f'["{question}","marzipan"]'
    assert first.usage.total_tokens + second.usage.total_tokens == usage


async def test_typed_output_of_a_tree(tmp_path: Path, model: Callable[[Served], Model]) -> None:
    async with served(SCRIPT, tmp_path) as server:
        result = await OtherAgent(model(server), output_type=NativeOutput(Total)).run("count")
    assert result.output == Total(total=4)


async def test_a_stream(tmp_path: Path, model: Callable[[Served], Model]) -> None:
    async with served(SCRIPT, tmp_path) as server:
        async with OtherAgent(model(server)).run_stream("what is the word?") as result:
            assert await result.get_output() == "marzipan"


async def test_tools_of_the_client_are_refused_in_words(tmp_path: Path, model: Callable[[Served], Model]) -> None:
    async with served(SCRIPT, tmp_path) as server:
        agent = OtherAgent(model(server))

        @agent.tool_plain
        def look() -> str:
            return "nothing"

        with pytest.raises(ModelHTTPError, match="not supported here"):
            await agent.run("what is the word?")
        assert isinstance(server.client, openai.AsyncOpenAI)
        assert server.endpoint.requests == []
