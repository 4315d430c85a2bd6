"""Short ways to say what a scripted model answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from inspect import cleandoc
from typing import Any, TypeVar

from recursive_agent import Agent, Limits
from recursive_agent.testing import Answer, Request, ScriptedEndpoint
from tests.waiting import PATIENCE

AnswerT = TypeVar("AnswerT", bound=Answer)


def py(code: str) -> str:
    """An answer with one block of code."""
    return f"```python\n{cleandoc(code)}\n```"


def agent_on(endpoint: ScriptedEndpoint, *, tools: tuple[Callable[..., Any], ...] = (), **settings: Any) -> Agent:
    """An agent that talks to the scripted endpoint; `Limits` fields may be given directly."""
    limits = {name: settings.pop(name) for name in list(settings) if name in Limits.__dataclass_fields__}
    return Agent(
        "scripted", endpoint.base_url, "sk-secret-of-the-test", tools=tools, limits=Limits(**limits), **settings
    )


def after(condition: Callable[[], Awaitable[Any]], answer: AnswerT) -> Callable[[Request], Awaitable[AnswerT]]:
    """A script's part that answers once `condition()` has been awaited, on the endpoint's loop: order without sleeping."""

    async def script(request: Request) -> AnswerT:
        async with asyncio.timeout(
            PATIENCE
        ):  # a condition that never comes is an error of the script, not a test that hangs
            await condition()
        return answer

    return script


def observations(result: Any, node: str = "0") -> list[str]:
    """What a node was shown after each step, oldest first, its opening left out."""
    steps = result.tree.nodes[node].steps
    return [message.content for step in steps[1:] for message in step.model.messages]
