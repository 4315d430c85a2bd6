"""Agents whose model is a real open one, by `chat`: what holds however well it answers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from recursive_agent import Agent, ExecutionTree, Limits, ModelCalled, Result, Status
from recursive_agent.trace.folder import trace_files
from tests.cli.command import environment, rao

from .cells import NUMBER, delegating
from .conftest import WINDOW, Served

pytestmark = pytest.mark.anyio

GOALS = [
    ("What is 17 * 23?", None),
    ("Return the longest of the words in `context`.", ["oak", "willow", "elm"]),
    ("Which number does the text in `context` name?", "The lamp was lit at nine, and 34 boats came in."),
]
STATUSES = {Status.FINISHED, Status.STEP_LIMIT, Status.MALFORMED}


def agent_at(server: Served, **settings: object) -> Agent:
    sampling = {"temperature": 0.7, "max_tokens": 48, **settings}
    return Agent(server.name, server.url, limits=Limits(max_depth=1, max_steps=2, max_malformed=2), sampling=sampling)


def answers(result: Result) -> list[str]:
    return [step.model.text for node in result.tree.walk() for step in node.steps if step.model is not None]


async def test_runs_end_with_a_status_and_their_usage_is_what_the_server_counted(server: Served) -> None:
    agent = agent_at(server)
    for goal, context in GOALS:
        read, written = server.billed()
        result = await agent.solve(goal, context=context, seed=3)
        assert result.status in STATUSES, result.reason
        usage = result.usage
        assert usage.calls == sum(node.usage.calls for node in result.tree.walk()) >= 1
        cached = usage.cached_tokens if server.forced == "grammar" else 0  # llama.cpp counts what it has to read
        now = server.billed()
        assert (usage.prompt_tokens - cached, usage.completion_tokens) == (now[0] - read, now[1] - written)
        assert usage.unconfirmed == 0


async def test_a_model_that_is_made_to_delegate_launches_a_sub_agent(server: Served, tmp_path: Path) -> None:
    sampling = {"temperature": 1.0, "max_tokens": 64, **delegating(server)}
    limits = Limits(max_depth=1, max_steps=2)
    agent = Agent(server.name, server.url, limits=limits, sampling=sampling, trace_dir=tmp_path)
    result = await agent.solve("Let a sub-agent choose a number, and return it.", returns=int, seed=5)
    assert result.status is Status.FINISHED, result.reason
    root, child = result.tree.walk()
    assert (root.depth, child.depth, child.parent) == (0, 1, root.id)
    last = child.steps[-1].model  # a first answer may have been sent back with advice
    assert last is not None
    chosen = re.findall(NUMBER, last.text)
    assert [str(child.result), str(result.output)] == chosen * 2
    (trace,) = trace_files(tmp_path)
    assert ExecutionTree.load(trace).usage == result.usage


async def test_the_same_seed_gives_the_same_run(server: Served) -> None:
    agent = agent_at(server, temperature=1.0)
    goal, context = GOALS[2]
    # The first run leaves its prompts in the server's cache; the next two find them there.
    first, second, third = [await agent.solve(goal, context=context, seed=11) for _ in range(3)]
    assert answers(second) == answers(third)
    assert second.status == third.status
    assert answers(first)
    other = await agent.solve(goal, context=context, seed=12)
    assert answers(other) != answers(third)


async def test_answers_come_as_events_as_they_are_in_the_tree(server: Served) -> None:
    stream = agent_at(server).stream(GOALS[0][0], seed=1)
    texts = [event.text async for event in stream if isinstance(event, ModelCalled)]
    assert texts == answers(stream.result)


async def test_a_stop_string_ends_an_answer(server: Served) -> None:
    result = await agent_at(server, stop=["e"]).solve(GOALS[0][0], seed=2)
    assert all("e" not in text for text in answers(result))
    assert result.status in STATUSES


async def test_a_long_goal_is_read_and_one_beyond_the_window_ends_the_run(server: Served) -> None:
    agent = agent_at(server, max_tokens=8)
    sentence = "The keeper counted 12 boats. "
    long = await agent.solve(f"How many boats were counted? {sentence * 60}", seed=1)
    assert long.status in STATUSES, long.reason
    assert max(step.model.usage.prompt_tokens for step in long.tree.root.steps if step.model) > 60 * 7
    beyond = await agent.solve(f"How many boats were counted? {sentence * (WINDOW // 6)}", seed=1)
    assert beyond.status is Status.CONTEXT_OVERFLOW
    assert not any(step.model for step in beyond.tree.root.steps)


def test_rao_run_at_its_url(server: Served, tmp_path: Path) -> None:
    named = {"OPENAI_BASE_URL": server.url, "RAO_MODEL": server.name}
    arguments = ["--max-steps", "1", "--max-depth", "0", "--max-tokens", "2500", "--json"]
    done = rao("run", GOALS[0][0], *arguments, cwd=tmp_path, env=environment(**named))
    assert done.returncode in (0, 1), done.stderr
    told = json.loads(done.stdout)
    assert told["status"] in {*STATUSES, Status.TOKEN_LIMIT, Status.TREE_BUDGET}
    (path,) = trace_files(tmp_path / "traces")
    assert ExecutionTree.load(path).usage.calls == 1
