"""Chosen calls wait until the caller approves them; whatever is not a clear yes refuses the call, and the agent goes on."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from recursive_agent import (
    Approval,
    ApprovalAnswered,
    ApprovalAsked,
    Approve,
    ConfigurationError,
    Event,
    ExecutionTree,
    HostCalled,
    PendingCall,
    Result,
    Status,
)
from recursive_agent.testing import ScriptedEndpoint, by_goal, replies
from recursive_agent.tools import Tool, ToolFailed
from tests.waiting import PATIENCE, until

from .helpers import agent_on, py

pytestmark = pytest.mark.anyio

SEND = """
try:
    print(await send_mail("ann@example.org", text="hello"))
except ToolError as error:
    print("refused:", error)
"""
sent: list[tuple[str, str]] = []


def send_mail(to: str, text: str = "") -> str:
    """Send a mail."""
    sent.append((to, text))
    return f"sent to {to}"


def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


async def run(
    approve: Any, code: str = SEND, *, tools: tuple[Callable[..., Any], ...] = (send_mail, add), **more: Any
) -> Result:
    sent.clear()
    script = by_goal({"root": [py(code), py("finish('end')")], "child": py("finish('of the child')")})
    with ScriptedEndpoint(script) as endpoint, anyio.fail_after(PATIENCE):
        result = await agent_on(endpoint, tools=tools, approve=approve, **more).solve("root")
    assert result.output == "end"
    return result


def printed(result: Result) -> str:
    cell = result.tree.root.steps[0].cell
    assert cell is not None
    assert cell.error is None
    return cell.output.strip()


async def test_an_approved_call_runs_and_the_approver_sees_what_it_decides_about(tmp_path: Path) -> None:
    seen: list[PendingCall] = []

    async def ask(call: PendingCall) -> bool:
        seen.append(call)
        await anyio.lowlevel.checkpoint()
        return True

    prices = {"prompt": 1.0, "completion": 1.0}
    result = await run(Approve(ask, tools=[send_mail]), f"await add(1, 2)\n{SEND}", trace_dir=tmp_path, prices=prices)
    assert printed(result) == "sent to ann@example.org"
    assert sent == [("ann@example.org", "hello")]
    [call] = seen
    assert (call.kind, call.name, call.arguments) == ("tool", "send_mail", {"to": "ann@example.org", "text": "hello"})
    assert (call.node, call.depth, call.goal, call.step, call.id) == ("0", 0, "root", 1, f"0:{call.call}")
    assert call.run == result.tree.run
    assert call.usage.calls == call.run_usage.calls == 1
    assert call.run_usage.cost > 0
    tree = ExecutionTree.load(next(tmp_path.iterdir()))
    [answer] = tree.approvals
    assert (answer.node, answer.name, answer.call, answer.allowed, answer.error) == (
        "0",
        "send_mail",
        call.call,
        True,
        None,
    )


@pytest.mark.parametrize(
    ("answer", "said", "error"),
    [
        (False, "the operator of this run did not approve this call", None),
        ("not to Ann", "the operator of this run did not approve this call: not to Ann", None),
        (Approval(False, "ask me first"), "the operator of this run did not approve this call: ask me first", None),
        (None, "no approval could be obtained", "the approver answered None, which is no bool, text or Approval"),
        (1, "no approval could be obtained", "the approver answered 1, which is no bool"),
        (ValueError("secret detail"), "no approval could be obtained", "the approver raised ValueError: secret detail"),
        (SystemExit(3), "no approval could be obtained", "the approver raised SystemExit: 3"),
        (Approval(True, arguments={"to": object}), "no approval could be obtained", "no plain data"),
        (Approval(True, arguments=[1]), "no approval could be obtained", "no mapping"),  # type: ignore[arg-type]
    ],
    ids=["no", "text", "reason", "none", "number", "raises", "exits", "not plain", "no mapping"],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_what_is_not_a_clear_yes_refuses_the_call(
    answer: Any, said: str, error: str | None, is_async: bool
) -> None:
    def ask(call: PendingCall) -> Any:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def ask_later(call: PendingCall) -> Any:
        return ask(call)

    result = await run(ask_later if is_async else ask)
    assert not sent
    assert said in printed(result)
    assert "secret" not in printed(result)
    [answered] = result.tree.approvals
    assert not answered.allowed
    assert (answered.error is None) == (error is None)
    assert error is None or error in (answered.error or "")
    [called] = result.tree.root.steps[0].calls
    assert called.error is not None
    assert called.error.startswith("ToolError: ")


async def test_other_arguments_are_used_in_place_of_those_of_the_call() -> None:
    result = await run(lambda call: Approval(True, arguments={**call.arguments, "to": "bob@example.org"}))
    assert sent == [("bob@example.org", "hello")]
    [called] = result.tree.root.steps[0].calls
    assert list(called.args) == ["ann@example.org"]  # as the agent's code made it
    assert result.tree.approvals[0].arguments == {"to": "bob@example.org", "text": "hello"}
    result = await run(lambda call: Approval(True, arguments={"address": "bob@example.org"}))
    assert not sent
    assert "refused: send_mail(): " in printed(result)


LAUNCH = """
try:
    print(await launch_subagent("child", max_tokens=100_000))
except LaunchRefused as error:
    print("refused:", error)
try:
    print(await launch_subagent("child", max_tokens=100_000))
except LaunchRefused as error:
    print("refused:", error)
"""


async def test_a_refused_launch_gives_its_place_and_its_tokens_back() -> None:
    answers: list[Any] = ["too dear", True]
    result = await run(
        Approve(lambda call: answers.pop(0), launches=True), LAUNCH, max_agents=2, max_children=1, max_tokens=150_000
    )
    assert printed(result) == ("refused: the operator of this run did not approve this call: too dear\nof the child")
    assert [call.child for call in result.tree.root.steps[0].calls] == [None, "0.1"]
    assert [answer.name for answer in result.tree.approvals] == ["launch_subagent"] * 2


async def test_a_launch_may_be_approved_with_other_arguments() -> None:
    def ask(call: PendingCall) -> Approval:
        assert call.arguments["goal"] == "child"
        return Approval(True, arguments={**call.arguments, "max_tokens": 50_000, "max_steps": 3})

    result = await run(Approve(ask, launches=True), LAUNCH, max_tokens=150_000)
    assert printed(result) == "of the child\nof the child"
    child = result.tree.nodes["0.0"]
    assert (child.max_tokens, child.max_steps) == (50_000, 3)
    result = await run(lambda call: Approval(True, arguments={"goal": "child", "steps": 3}), LAUNCH)
    assert printed(result).count("refused: a launch takes no argument 'steps'") == 2


async def test_a_sync_function_is_asked_about_one_call_at_a_time() -> None:
    at_once = most = 0

    def ask(call: PendingCall) -> bool:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        at_once -= 1
        return True

    result = await run(ask, "print(sum(await asyncio.gather(*[add(n, n) for n in range(6)])))")
    assert printed(result) == "30"
    assert most == 1


async def test_nobody_who_answers_in_time_is_a_refusal() -> None:
    async def never(call: PendingCall) -> bool:
        await anyio.sleep_forever()
        return True

    result = await run(Approve(never, tools=True, timeout=0.2))
    assert "nobody answered in time" in printed(result)
    assert result.tree.approvals[0].error == "there was no answer after 0.2 seconds"


async def test_the_time_of_the_run_stands_still_while_a_call_waits() -> None:
    deadlines: list[float] = []

    async def ask(call: PendingCall) -> bool:
        run = stream._steering._run
        assert run is not None
        deadlines.append(run.clock._scope.deadline)
        deadlines.append(run.clock.left)
        return True

    with ScriptedEndpoint(replies([py(SEND), py("finish('end')")])) as endpoint, anyio.fail_after(PATIENCE):
        agent = agent_on(endpoint, tools=(send_mail,), approve=ask, timeout=PATIENCE)
        async with agent.stream("root") as stream:
            async for event in stream:
                if isinstance(event, ApprovalAnswered):
                    run = stream._steering._run
                    assert run is not None
                    deadlines.append(run.clock._scope.deadline)
    assert stream.result.output == "end"
    stopped, left, after = deadlines
    assert stopped == math.inf
    assert 0 < left < PATIENCE
    assert after < math.inf


async def test_an_answer_after_the_agent_was_cancelled_runs_nothing() -> None:
    asked, answer = anyio.Event(), anyio.Event()

    async def ask(call: PendingCall) -> bool:
        asked.set()
        with anyio.CancelScope(shield=True):  # says yes all the same
            await answer.wait()
        return True

    events: list[Event] = []
    sent.clear()
    with ScriptedEndpoint(replies([py(SEND)])) as endpoint, anyio.fail_after(PATIENCE):
        agent = agent_on(endpoint, tools=(send_mail,), approve=ask, timeout=30)
        async with agent.stream("root") as stream:

            async def watch() -> None:
                async for event in stream:
                    events.append(event)

            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await asked.wait()
                stream.cancel("0", "enough")
                answer.set()
        result = stream.result
    assert result.status is Status.CANCELLED
    assert not sent
    assert any(isinstance(event, ApprovalAsked) for event in events)
    [answered] = [event for event in events if isinstance(event, ApprovalAnswered)]
    [called] = [event for event in events if isinstance(event, HostCalled)]
    assert called.error is not None
    assert answered.call == called.call


async def test_a_run_that_is_left_while_a_call_waits_ends() -> None:
    asked = anyio.Event()

    async def ask(call: PendingCall) -> bool:
        asked.set()
        await anyio.sleep_forever()
        return True

    with ScriptedEndpoint(replies([py(SEND)])) as endpoint, anyio.fail_after(PATIENCE):
        async with agent_on(endpoint, tools=(send_mail,), approve=ask).stream("root"):
            await until(asked.is_set)


def test_wrong_settings_say_what_to_do() -> None:
    def ask(call: PendingCall) -> bool:
        return True

    def agent(**settings: Any) -> Any:
        with ScriptedEndpoint(py("finish(1)")) as endpoint:
            return agent_on(endpoint, tools=(send_mail,), **settings)

    for wrong, said in (
        (lambda: Approve(ask), "asks about nothing"),
        (lambda: Approve("yes", launches=True), "must be a function of a call"),  # type: ignore[arg-type]
        (lambda: Approve(ask, tools="send_mail"), r"tools=\['send_mail'\]"),
        (lambda: Approve(ask, tools=[7]), "must be tools or their names"),  # type: ignore[list-item]
        (lambda: Approve(ask, tools=True, timeout=0), "timeout of Approve"),
        (lambda: agent(approve=Approve(ask, tools=["send_mial"])), "do you mean 'send_mail'"),
        (lambda: agent(approve=7), "must be a function of a call"),
        (lambda: agent(approve=Approve(ask, tools=["send_mail"])).variant(tools=[add]), "does not have; it has add"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            wrong()
    assert agent(approve=ask).variant().approve.ask is ask


def test_arguments_by_name_and_back() -> None:
    def several(first: int, /, second: int, *rest: int, key: int = 0) -> None: ...

    tool = Tool(several)
    for args, kwargs in (((1, 2, 3, 4), {"key": 5}), ((1,), {"second": 2}), ((1, 2), {}), ((), {"second": 2})):
        named = tool.named(args, kwargs)
        back, rest = tool.unnamed(named)
        assert tool.named(back, rest) == named
    assert tool.named((1, 2, 3), {}) == {"first": 1, "second": 2, "*": [3]}
    assert tool.unnamed({"first": 1, "second": 2, "*": [3]}) == ([1, 2, 3], {})
    for args, kwargs in (((1, 2), {"second": 3}), ((1, 2, 3), {"*": 4})):
        with pytest.raises(ToolFailed, match="multiple values"):
            tool.named(args, kwargs)
    with pytest.raises(ToolFailed, match="need all that stand before"):
        tool.unnamed({"first": 1, "*": [3]})
