"""What callers get wrong is a ConfigurationError that names the setting, before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from recursive_agent import Agent, ConfigurationError
from recursive_agent.returns import Returns
from recursive_agent.testing import ScriptedEndpoint, replies

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio


def look(x: int) -> int:
    return x


AGENT: list[tuple[str, Any]] = [
    ("limits", 5),
    ("limits", {"max_steps": 3}),
    ("tools", look),
    ("tools", None),
    ("tools", {"look": look}),
    ("tools", "look"),
    ("instructions", 5),
    ("trace_dir", 5),
    ("api_key", 5),
    ("base_url", 5),
    ("model", 5),
    ("context_limit", True),
]


@pytest.mark.parametrize(("name", "value"), AGENT)
def test_settings_of_another_kind_are_refused_by_name(name: str, value: Any) -> None:
    settings = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": "a-placeholder"} | {name: value}
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        Agent(**settings)


@pytest.mark.parametrize(("name", "value"), [("limits", 5), ("instructions", 5), ("tools", look)])
def test_so_are_those_of_a_variant(name: str, value: Any) -> None:
    agent = Agent("m", "http://127.0.0.1:9/v1", "a-placeholder")
    with pytest.raises(ConfigurationError, match=f"^{name} must be"):
        agent.variant(**{name: value})


SOLVE: list[tuple[str, Any]] = [
    ("seed", "x"),
    ("seed", 1.5),
    ("score", 5),
    ("group", 5),
    ("returns", {"name": str}),
    ("returns", {"enum": {1, 2}}),
    ("returns", {"const": float("nan")}),
    ("returns", {1: 2}),
]


@pytest.mark.parametrize(("name", "value"), SOLVE)
async def test_arguments_of_another_kind_are_refused_before_a_call_is_made(name: str, value: Any) -> None:
    async with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
        with pytest.raises(ConfigurationError, match=rf"^{name} (must|is)"):
            await agent_on(endpoint).solve("g", **{name: value})
        assert not endpoint.requests


async def test_seeds_of_any_whole_kind_are_taken() -> None:
    class Whole:
        def __index__(self) -> int:
            return 7

    async with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
        assert (await agent_on(endpoint).solve("g", seed=Whole())).output == 1  # type: ignore[arg-type]


def test_what_pydantic_reads_late_is_checked_at_once() -> None:
    returns = Returns(Iterable[int])
    assert returns.validate([1, "2"]) == [1, 2]
    with pytest.raises(ValueError, match="valid integer"):
        returns.validate([1, "x"])
