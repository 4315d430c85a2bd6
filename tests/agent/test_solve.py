"""What an agent can do in its REPL, and what its result is."""

from __future__ import annotations

import asyncio
import dataclasses
import warnings
from typing import Any, Literal

import anyio
import pytest
from pydantic import BaseModel

from recursive_agent import Agent, ConfigurationError, NotFinished, SandboxError, Status, ToolContext, tool
from recursive_agent.testing import Fault, Reply, Request, ScriptedEndpoint, by_goal, replies
from tests.waiting import PATIENCE, until

from .helpers import after, agent_on, observations, py

pytestmark = pytest.mark.anyio


async def test_state_persists_across_steps_and_finish_gives_the_result() -> None:
    with ScriptedEndpoint(replies([py("x = 20\nx"), py("x += 1"), py("finish(x * 2)")])) as endpoint:
        result = await agent_on(endpoint).solve("compute")
    assert result.status is Status.FINISHED
    assert result.output == 42
    assert [o.splitlines()[0] for o in observations(result)] == ["20", "(no output)"]


async def test_finish_ends_the_cell_at_once() -> None:
    code = "try:\n    finish('first')\nexcept Exception:\n    finish('caught')\nfinish('second')"
    with ScriptedEndpoint(replies([py(code)])) as endpoint:
        assert (await agent_on(endpoint).solve("go")).output == "first"


async def test_an_error_is_shown_and_the_agent_goes_on() -> None:
    with ScriptedEndpoint(replies([py("1/0"), py("finish('recovered')")])) as endpoint:
        result = await agent_on(endpoint).solve("go")
    assert "ZeroDivisionError" in observations(result)[0]
    assert result.output == "recovered"


async def test_children_in_sequence_and_together() -> None:
    root = py(
        """
        one = await launch_subagent('small one')
        rest = await asyncio.gather(launch_subagent('small two'), launch_subagent('small three'))
        finish([one, *rest])
        """
    )
    both = asyncio.Barrier(2)
    script = by_goal(
        {
            "big": root,
            "small one": py("finish(1)"),
            "small two": after(both.wait, py("finish(2)")),
            "small three": after(both.wait, py("finish(3)")),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("big")
    assert result.output == [1, 2, 3]
    tree = result.tree
    assert [(node.id, node.parent, node.depth) for node in tree.walk()] == [
        ("0", None, 0),
        ("0.0", "0", 1),
        ("0.1", "0", 1),
        ("0.2", "0", 1),
    ]
    assert tree.concurrent_share == pytest.approx(2 / 3)


async def test_children_of_children() -> None:
    script = by_goal(
        {
            "level 0": py("finish(1 + await launch_subagent('level 1'))"),
            "level 1": py("finish(1 + await launch_subagent('level 2'))"),
            "level 2": py("finish(1)"),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("level 0")
    assert result.output == 3
    assert result.tree.max_depth == 2


async def test_a_failing_child_raises_in_its_parent_and_its_siblings_go_on() -> None:
    root = py(
        """
        out = await asyncio.gather(launch_subagent('bad'), launch_subagent('good'), return_exceptions=True)
        finish([out[0].status, out[0].partial, out[1], [s.status for s in subagents]])
        """
    )
    script = by_goal(
        {"root": root, "bad": py("print('half of it')"), "good": [py("await asyncio.sleep(0.01)"), py("finish('ok')")]}
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, max_steps=2).solve("root")
    status, partial, good, statuses = result.output
    assert status == "step_limit"
    assert "half of it" in partial
    assert good == "ok"
    assert statuses == ["step_limit", "finished"]


async def test_an_uncaught_child_failure_is_an_observation() -> None:
    script = by_goal({"root": [py("await launch_subagent('bad')"), py("finish('saw it')")], "bad": py("1")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, max_steps=2).solve("root")
    assert "SubagentError" in observations(result)[0]
    assert "step_limit" in observations(result)[0]
    assert result.output == "saw it"


async def test_results_nobody_awaited_are_kept_in_subagents() -> None:
    root = [
        py("t = asyncio.create_task(launch_subagent('slow'))\nawait asyncio.sleep(0)"),
        py("await t"),
        py("finish([(s.goal, s.status, s.result) for s in subagents])"),
    ]
    went_on = asyncio.Event()

    def at_root(request: Request) -> str:
        if request.step:
            went_on.set()
        return root[request.step]

    script = by_goal({"root": at_root, "slow": after(went_on.wait, py("finish('found')"))})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert result.output == [["slow", "finished", "found"]]
    assert "Still running" in observations(result)[0]


async def test_a_launch_that_was_not_awaited_is_reported() -> None:
    never = py("def keep(call):\n    return [call]\nkept = keep(launch_subagent('never'))")
    with ScriptedEndpoint(replies([never, py("finish(len(subagents))")])) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert "launch_subagent" in observations(result)[0]
    assert "await" in observations(result)[0]
    assert len(result.tree.nodes) == 1


async def test_a_child_left_running_ends_with_its_parent() -> None:
    async def under_way() -> None:
        await until(lambda: len(endpoint.ledger.entries) == 2)

    root = py("t = asyncio.create_task(launch_subagent('endless'))\nawait under_way()\nfinish('done')")
    with ScriptedEndpoint(by_goal({"root": root, "endless": Fault("hang")})) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, tools=(under_way,)).solve("root")
    assert result.output == "done"
    assert result.tree.nodes["0.0"].status is Status.CANCELLED


async def test_context_is_data_not_prompt() -> None:
    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        return py("finish((len(context['doc']), context['doc'][:3]))")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("measure", context={"doc": "abc" * 700_000})
    assert result.output == [2_100_000, "abc"]
    assert "abcabc" not in seen[0].text()
    assert "2,100,000 characters" in seen[0].text()


async def test_context_for_a_child() -> None:
    script = by_goal(
        {
            "root": py("finish(await launch_subagent('sum it', context=[1, 2, 3]))"),
            "sum it": py("finish(sum(context))"),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        assert (await agent_on(endpoint).solve("root")).output == 6


class Stop(BaseModel):
    city: str
    nights: int


@pytest.mark.parametrize(
    ("returns", "bad", "good", "output"),
    [
        (list[str], "3", "['a']", ["a"]),
        (Literal["yes", "no"], "'maybe'", "'yes'", "yes"),
        (Stop, "{'city': 'Bern'}", "{'city': 'Bern', 'nights': 2}", Stop(city="Bern", nights=2)),
        ({"type": "object", "required": ["a"]}, "{}", "{'a': 1}", {"a": 1}),
    ],
)
async def test_a_value_that_does_not_fit_is_refused_and_the_agent_goes_on(
    returns: Any, bad: str, good: str, output: Any
) -> None:
    with ScriptedEndpoint(replies([py(f"finish({bad})"), py(f"finish({good})")])) as endpoint:
        result = await agent_on(endpoint).solve("go", returns=returns)
    assert "finish() was refused" in observations(result)[0]
    assert result.output == output


async def test_children_give_typed_values_too() -> None:
    root = py(
        """
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int
            y: int

        p = await launch_subagent('a point', returns=Point)
        n = await launch_subagent('numbers', returns=list[int])
        finish([p.x + p.y, n])
        """
    )
    script = by_goal(
        {
            "root": root,
            "a point": [py("finish({'x': 'wrong', 'y': 2})"), py("finish({'x': 1, 'y': 2})")],
            "numbers": [py("finish('none')"), py("finish([1, 2])")],
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root")
    assert result.output == [3, [1, 2]]
    assert "finish() was refused" in observations(result, "0.0")[0]
    assert "finish() was refused" in observations(result, "0.1")[0]


@dataclasses.dataclass
class Found:
    title: str
    pages: list[int]


async def test_tools_are_typed_host_functions_sync_or_async() -> None:
    async def search(query: str, limit: int = 2) -> list[Found]:
        """Search the library."""
        return [Found(f"{query} {n}", [n]) for n in range(limit)]

    @tool(name="double", description="Twice a number.")
    def twice(value: float) -> float:
        return value * 2

    seen: list[Request] = []

    def script(request: Request) -> str:
        seen.append(request)
        if request.step == 0:
            return py("hits, d = await asyncio.gather(search('sea', limit=1), double(4))\nhits, d")
        return py("finish([hits[0]['title'], d])")

    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(search, twice)).solve("go")
    assert result.output == ["sea 0", 8.0]
    prompt = seen[0].text()
    assert "await search(query: str, limit: int = 2) -> list[Found]" in prompt
    assert "Search the library." in prompt
    assert "Twice a number." in prompt


async def test_wrong_arguments_and_failing_tools_are_the_agents_to_handle() -> None:
    def divide(a: int, b: int) -> float:
        return a / b

    cells = [
        py("await divide('x', 1)"),
        py("await divide(1, 0)"),
        py("try:\n    await divide(1)\nexcept ToolError as e:\n    finish(str(e))"),
    ]
    with ScriptedEndpoint(replies(cells)) as endpoint:
        result = await agent_on(endpoint, tools=(divide,)).solve("go")
    first, second = observations(result)
    assert "ToolError" in first
    assert "valid integer" in first
    assert "ZeroDivisionError" in second
    assert "Missing required argument" in result.output


async def test_a_tool_learns_who_calls_and_agents_cannot_forge_it() -> None:
    callers: list[ToolContext] = []

    async def who(ctx: ToolContext) -> str:
        callers.append(ctx)
        return ctx.node

    script = by_goal(
        {
            "root": [py("await who(ctx='forged')"), py("finish([await who(), await launch_subagent('child')])")],
            "child": py("finish(await who())"),
        }
    )
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint, tools=(who,)).solve("root")
    assert result.output == ["0", "0.0"]
    assert [(c.parent, c.depth, c.goal) for c in callers] == [(None, 0, "root"), ("0", 1, "child")]
    assert "unexpected argument" in observations(result)[0]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("I think the answer is 4.", "No code was found"),
        ("", "empty"),
        ("```python\n\n```", "empty"),
        (Fault("null_content"), "empty"),
        (Fault("no_choices"), "empty"),
    ],
)
async def test_an_answer_without_code_is_an_observation(answer: Any, words: str) -> None:
    with ScriptedEndpoint(replies([answer, py("finish('ok')")])) as endpoint:
        result = await agent_on(endpoint).solve("go")
    assert words in observations(result)[0]
    assert result.output == "ok"


async def test_a_model_that_never_writes_code_is_stopped() -> None:
    with ScriptedEndpoint(replies([], then="Let me think.")) as endpoint:
        result = await agent_on(endpoint, max_malformed=3).solve("go")
    assert result.status is Status.MALFORMED
    assert "No code was found" in (result.reason or "")
    assert result.usage.calls == 3
    with pytest.raises(NotFinished, match="malformed"):
        _ = result.output


async def test_an_answer_cut_by_the_token_cap_is_not_run() -> None:
    with ScriptedEndpoint(replies([py("x = 1\n" * 200), py("finish('short')")])) as endpoint:
        result = await agent_on(endpoint, sampling={"max_tokens": 30}).solve("go")
    assert "cut after 30 tokens" in observations(result)[0]
    assert result.output == "short"


@pytest.mark.parametrize("action_format", ["fenced", "tags", "tool"])
async def test_every_action_format(action_format: Any) -> None:
    def script(request: Request) -> Reply | str:
        code = "x = 1" if request.step == 0 else "finish(x + 1)"
        if action_format == "tool":
            from recursive_agent.model.base import ToolCall

            return Reply("", tool_calls=[ToolCall(f"call_{request.step}", "python", f'{{"code": "{code}"}}')])
        return f"<python>{code}</python>" if action_format == "tags" else py(code)

    with ScriptedEndpoint(script) as endpoint:
        assert (await agent_on(endpoint, action_format=action_format).solve("go")).output == 2


async def test_the_status_line_says_what_is_left() -> None:
    with ScriptedEndpoint(replies([py("1"), py("finish(2)")])) as endpoint:
        result = await agent_on(endpoint, max_steps=4, max_tokens=100_000, max_depth=3).solve("go")
    left = 100_000 - result.tree.root.steps[0].model.usage.total_tokens
    assert observations(result)[0].splitlines()[0] == f"[step 1/4 · {left:,} tokens left · depth 0/3]"


async def test_an_agent_reads_of_its_tokens_once_three_quarters_are_used() -> None:
    with ScriptedEndpoint(replies([py("1")] * 60)) as endpoint:
        result = await agent_on(endpoint, max_steps=60, max_tokens=60_000).solve("go")
    assert result.status is Status.TOKEN_LIMIT
    spent, total = [], 0
    for step in result.tree.root.steps[: len(observations(result))]:
        assert step.model is not None
        total += step.model.usage.total_tokens
        spent.append(total)
    shown = [text.startswith("[step ") for text in observations(result)]
    assert shown == [60_000 - used <= 15_000 for used in spent[: len(shown)]]
    assert True in shown
    assert False in shown


async def test_scores_and_groups_are_put_on_the_tree() -> None:
    async def score(node: Any) -> float | None:
        if node.id == "0.0":
            raise RuntimeError("no judge")
        return {"0": 1.0, "0.1": None}.get(node.id, 1.5)

    root = py("finish([await launch_subagent('child') for _ in range(3)])")
    script = by_goal({"root": root, "child": py("finish(1)")})
    with ScriptedEndpoint(script) as endpoint:
        result = await agent_on(endpoint).solve("root", score=score, group="task-7")
    assert result.tree.group == "task-7"
    assert [(node.score, node.score_status) for node in result.tree.walk()] == [
        (1.0, "scored"),
        (None, "judge_error"),
        (None, "unknown"),
        (None, "judge_error"),
    ]


async def test_the_same_seed_asks_for_the_same_samples() -> None:
    def run() -> tuple[ScriptedEndpoint, list[tuple[str, int | None]]]:
        asked: list[tuple[str, int | None]] = []

        def script(request: Request) -> str:
            asked.append((request.first.splitlines()[0], request.seed))
            return py("finish(await launch_subagent('child'))") if "root" in request.first else py("finish(1)")

        return ScriptedEndpoint(script), asked

    seeds = []
    for seed in (1, 1, 2):
        endpoint, asked = run()
        with endpoint:
            await agent_on(endpoint).solve("root", seed=seed)
        seeds.append(asked)
    assert seeds[0] == seeds[1]
    assert seeds[0] != seeds[2]
    assert seeds[0][0][1] != seeds[0][1][1]


async def test_one_agent_runs_many_goals_at_once_without_crossing_wires() -> None:
    def script(request: Request) -> str:
        number = request.first.split("number ")[1].split()[0]
        return py(f"print('I am {number}')") if request.step == 0 else py(f"finish({number})")

    results: dict[int, Any] = {}
    with ScriptedEndpoint(script) as endpoint:
        async with agent_on(endpoint) as agent, anyio.create_task_group() as group:

            async def run(number: int) -> None:
                results[number] = await agent.solve(f"number {number} please")

            for number in range(8):
                group.start_soon(run, number)
    for number, result in results.items():
        assert result.output == number
        assert observations(result)[0].splitlines()[0] == f"I am {number}"


async def test_trusted_code_may_run_in_process_with_a_warning() -> None:
    script = by_goal({"root": py("finish(await launch_subagent('child'))"), "child": py("finish(6 * 7)")})
    with ScriptedEndpoint(script) as endpoint, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = await agent_on(endpoint, sandbox="inprocess").solve("root")
    assert result.output == 42
    assert result.tree.settings["enforced"] == ["policy"]
    assert len(caught) <= 1  # once in the life of a process
    assert all("isolates nothing" in str(warning.message) for warning in caught)


async def test_without_the_kernels_layers_nothing_runs_where_they_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recursive_agent.repl.host._REQUIRED", {"kernel": frozenset({"a layer of tomorrow"})})
    with ScriptedEndpoint(replies([py("finish(1)")])) as endpoint:
        with pytest.raises(SandboxError, match="a layer of tomorrow"):
            await agent_on(endpoint, require="kernel").solve("go")
        assert not endpoint.ledger.entries


def test_solve_sync_for_programs_without_a_loop() -> None:
    with ScriptedEndpoint(replies([py("finish('sync')")])) as endpoint:
        assert agent_on(endpoint).solve_sync("go").output == "sync"


def test_settings_that_make_no_sense_are_refused_before_anything_runs() -> None:
    def launch_subagent() -> None: ...

    def twin() -> None: ...

    with pytest.raises(ConfigurationError, match="cannot be a tool's name"):
        Agent("m", "http://localhost:1/v1", tools=[launch_subagent])
    with pytest.raises(ConfigurationError, match="two tools"):
        Agent("m", "http://localhost:1/v1", tools=[twin, twin])
    with pytest.raises(ConfigurationError, match="there is no sandbox 'docker'; choose from 'inprocess'"):
        Agent("m", "http://localhost:1/v1", sandbox="docker")
    with pytest.raises(ConfigurationError, match="prices"):
        Agent("m", "http://localhost:1/v1", prices={"input": 1})


async def test_a_goal_must_say_something() -> None:
    with pytest.raises(ConfigurationError, match="goal"):
        await Agent("m", "http://localhost:1/v1").solve("  ")
