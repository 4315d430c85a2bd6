"""What happens to runs when clients leave, when too many come and when the server ends; and what is left of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest

from rao_rl.envs.textcraft import TextCraft
from rao_rl.serve.agent import raw as agent_raw
from rao_rl.serve.agent.app import agent_app
from rao_rl.serve.http import ServerSettings, serving
from recursive_agent import Agent, ExecutionTree, Limits
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.testing import Request, ScriptedEndpoint
from tests.agent.helpers import py
from tests.waiting import until

from .agents import AGENT, KEY, MODEL, Served, served
from .test_chat import TREE, said

pytestmark = pytest.mark.anyio


class Held:
    """A script whose children are not answered until `release`; on the thread of the endpoint."""

    def __init__(self, children: int = 2) -> None:
        self._children = children
        self._released: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, request: Request) -> str:
        self._loop = asyncio.get_running_loop()
        if self._released is None:
            self._released = asyncio.Event()
        if "Goal: child" in request.first:
            await self._released.wait()
            return py("finish(1)")
        launches = f"launch_subagent(f'child {{n}}') for n in range({self._children})"
        return py(f"finish(sum(await asyncio.gather(*[{launches}])))")

    def release(self) -> None:
        assert self._loop is not None
        assert self._released is not None
        self._loop.call_soon_threadsafe(self._released.set)


def asked(server: Served, count: int) -> Callable[[], bool]:
    return lambda: len(server.endpoint.requests) >= count


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_client_that_goes_takes_the_whole_tree_with_it(tmp_path: Path, path: str, stream: bool) -> None:
    async with served(Held(), tmp_path) as server:
        body = {
            "model": AGENT,
            "stream": stream,
            **({"input": "x"} if path == "responses" else {"messages": said("x")}),
        }
        async with anyio.create_task_group() as group:

            async def ask() -> None:
                async with server.http.stream("POST", f"/v1/{path}", json=body) as answer:
                    async for _ in answer.aiter_raw():
                        pass

            group.start_soon(ask)
            await until(asked(server, 3))
            group.cancel_scope.cancel()
        [file] = tmp_path.glob("*.jsonl")
        await until(lambda: ExecutionTree.load(file).complete)
        tree = ExecutionTree.load(file)
        assert {node.status for node in tree.nodes.values()} == {"cancelled"}
        assert len(tree.nodes) == 3
        await until(lambda: server.app.state.gate.running == 0)
        # The endpoint sees its requests go as well, so nothing is sampled for nobody.
        await until(lambda: all(entry.seconds is not None for entry in server.endpoint.ledger.entries))
        assert await server.metric('rao_agent_runs_total{status="cancelled"}') == 1
        assert await server.metric("rao_agent_runs_active") == 0


async def test_requests_beyond_the_queue_are_told_when_to_come_back(tmp_path: Path) -> None:
    held = Held(children=1)
    async with served(held, tmp_path, settings={"max_concurrency": 1, "max_queue": 1}) as server:
        answers: list[str | None] = []

        async def ask() -> None:
            answer = await server.client.chat.completions.create(model=AGENT, messages=said("x"))
            answers.append(answer.choices[0].message.content)

        gate = server.app.state.gate
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await until(asked(server, 2))
            group.start_soon(ask)
            await until(lambda: gate.queued == 1)
            for stream in (False, True):
                body = {"model": AGENT, "messages": said("x"), "stream": stream}
                refused = await server.http.post("/v1/chat/completions", json=body)
                assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
                assert refused.json()["error"]["type"] == "rate_limit_error"
            assert len(list(tmp_path.glob("*.jsonl"))) == 1
            held.release()
        assert answers == ["1", "1"]


async def test_requests_share_one_sandbox_and_their_runs_stay_apart(tmp_path: Path) -> None:
    async with served(py("finish(context)"), tmp_path, settings={"max_concurrency": 8}) as server:
        answers: dict[int, str | None] = {}

        async def ask(number: int) -> None:
            extra: dict[str, Any] = {"context": number, "limits": {"max_steps": 1 + number}}
            answer = await server.client.chat.completions.create(model=AGENT, messages=said("x"), extra_body=extra)
            answers[number] = answer.choices[0].message.content

        async with anyio.create_task_group() as group:
            for number in range(12):
                group.start_soon(ask, number)
        trees = server.trees()
    assert answers == {number: str(number) for number in range(12)}
    assert {tree.root.context: tree.limits["max_steps"] for tree in trees} == {n: n + 1 for n in range(12)}


async def test_a_server_that_ends_cancels_what_takes_too_long(tmp_path: Path) -> None:
    held, answers = Held(children=1), []
    async with httpx2.AsyncClient(timeout=None) as http, anyio.create_task_group() as group:
        async with served(held, tmp_path, settings={"drain_seconds": 0}) as server:

            async def ask() -> None:
                body = {"model": AGENT, "messages": said("x")}
                headers = {"Authorization": f"Bearer {KEY}"}
                answers.append(await http.post(f"{server.url}/v1/chat/completions", json=body, headers=headers))

            group.start_soon(ask)
            await until(asked(server, 2))
    [answer] = answers
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "shutting_down"
    [tree] = server.trees()
    assert tree.complete
    assert tree.status == "cancelled"


async def test_a_recorded_run_is_served_by_its_id(tmp_path: Path) -> None:
    async with served(TREE, tmp_path) as server:
        body = {"model": AGENT, "messages": said("say")}
        run = (await server.http.post("/v1/chat/completions", json=body)).headers["x-rao-run"]
        trace = await server.http.get(f"/v1/traces/{run}")
        [file] = tmp_path.glob("*.jsonl")
        assert trace.status_code == 200
        assert trace.headers["content-type"] == "application/x-ndjson"
        assert trace.content == file.read_bytes()
        assert json.loads(trace.text.splitlines()[0])["run"] == run
        assert KEY not in trace.text
        for other in ("0" * 12, run[1:], run + "%0A", run.upper() + "G", "*", "..", f"..%2F{file.name}", "%00"):
            missing = await server.http.get(f"/v1/traces/{other}")
            assert missing.status_code == 404, other
            assert missing.json()["error"]["type"] == "not_found_error"


async def test_a_server_without_traces_says_so() -> None:
    with ScriptedEndpoint(py("finish(1)")) as endpoint:
        settings = ServerSettings(port=0)
        app = agent_app(Agent(MODEL, endpoint.base_url), settings)
        async with serving(app, settings) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
            answer = await client.chat.completions.create(model=AGENT, messages=said("x"))
            with pytest.raises(openai.NotFoundError, match="keeps no traces"):
                await client.get(f"/traces/{answer.model_dump()['rao']['run']}", cast_to=object)


async def test_the_raw_model_is_passed_on_untouched(tmp_path: Path) -> None:
    async with served("a long answer of the model", tmp_path, raw=True) as server:
        cards = {card.id: card.model_dump() async for card in server.client.models.list()}
        assert set(cards) == {MODEL, AGENT}
        assert cards[MODEL]["max_model_len"] == 32_768
        answer = await server.client.chat.completions.create(
            model=MODEL, messages=said("hello"), stop=["zebra"], extra_body={"return_token_ids": True}
        )
        assert answer.choices[0].message.content == "a long answer of the model"
        assert answer.model_dump()["prompt_token_ids"]
        stream = await server.client.chat.completions.create(model=MODEL, messages=said("hello"), stream=True)
        pieces = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(pieces) == "a long answer of the model"
        assert len(pieces) > 2
        completion = await server.client.completions.create(model=MODEL, prompt="hello", max_tokens=2)
        assert completion.choices[0].finish_reason == "length"
        tokens = await server.http.post("/tokenize", json={"model": MODEL, "prompt": "hello"})
        assert tokens.json()["count"] == len(tokens.json()["tokens"]) > 0
        with pytest.raises(openai.NotFoundError):
            await server.client.completions.create(model=AGENT, prompt="hello")
        assert server.trees() == []


async def test_the_raw_models_errors_are_passed_on_and_its_death_is_a_bad_gateway(tmp_path: Path) -> None:
    async with served("x" * 40_000, tmp_path, raw=True) as server:
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await server.client.chat.completions.create(model=MODEL, messages=said("x"), max_tokens=40_000)
        server.endpoint.stop()
        answer = await server.http.post("/v1/chat/completions", json={"model": MODEL, "messages": said("x")})
        assert answer.status_code == 502
        assert answer.json()["error"]["type"] == "upstream_error"
        assert httpx2.URL(server.endpoint.base_url).netloc.decode() not in answer.text


async def test_a_stream_of_the_raw_model_is_kept_alive_while_it_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_raw, "PING_SECONDS", 0.05)
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x"}], "stream": True}
    async with served("an answer", tmp_path, raw=True, settings={"max_concurrency": 1}) as server:
        gate = server.app.state.gate
        async with gate:  # the only place is taken
            request = server.http.build_request("POST", "/v1/chat/completions", json=body)
            response = await server.http.send(request, stream=True)
            lines = response.aiter_lines()
            assert (response.status_code, await anext(lines)) == (200, ": ping")
        rest = [line async for line in lines if line and line != ": ping"]
        await response.aclose()
        assert rest[-1] == "data: [DONE]"
        server.endpoint.stop()
        async with gate:
            response = await server.http.send(request, stream=True)
            lines = response.aiter_lines()
            assert (response.status_code, await anext(lines)) == (200, ": ping")
        (told,) = [line async for line in lines if line and line != ": ping"]
        await response.aclose()
        assert json.loads(told.removeprefix("data: "))["error"]["type"] == "upstream_error"


async def test_a_client_that_leaves_the_raw_model_ends_its_request(tmp_path: Path) -> None:
    async with served(Held(), tmp_path, raw=True) as server:
        async with anyio.create_task_group() as group:
            body = {"model": MODEL, "messages": said("Goal: child")}
            group.start_soon(lambda: server.http.post("/v1/chat/completions", json=body))
            await until(asked(server, 1))
            group.cancel_scope.cancel()
        await until(lambda: all(entry.seconds is not None for entry in server.endpoint.ledger.entries))
        await until(lambda: server.app.state.gate.running == 0)


async def test_an_agent_may_be_made_for_each_goal(tmp_path: Path) -> None:
    with ScriptedEndpoint(py("finish(await look())")) as endpoint:
        settings = ServerSettings(port=0)
        agent = Agent(MODEL, endpoint.base_url, trace_dir=tmp_path, limits=Limits(max_depth=0))

        def prepare(goal: str, seed: int | None) -> tuple[Agent, dict[str, Any]]:
            if not goal.startswith("look for "):
                raise ConfigurationError("this agent only looks for things")

            async def look() -> str:
                return f"{goal.removeprefix('look for ')} {seed}"

            return agent.variant(tools=[look]), {"score": lambda node: 0.5, "context": "a world"}

        app = agent_app(agent, settings, name="looker", prepare=prepare)
        async with serving(app, settings) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
            answer = await client.chat.completions.create(model="looker-agent", messages=said("look for gold"), seed=7)
            assert answer.choices[0].message.content == "gold 7"
            assert answer.model_dump()["rao"]["score"] == 0.5
            with pytest.raises(openai.BadRequestError, match="only looks for things") as caught:
                await client.chat.completions.create(model="looker-agent", messages=said("write a poem"))
            assert caught.value.code == "unknown_goal"
            turns = [*said("look for tin"), {"role": "assistant", "content": "tin"}, *said("look for gold")]
            for wrong in ({"messages": turns}, {"messages": said("look for gold"), "extra_body": {"context": 1}}):
                with pytest.raises(openai.BadRequestError) as caught:
                    await client.chat.completions.create(model="looker-agent", **wrong)  # type: ignore[arg-type]
                assert caught.value.code == "goal_only"
    [tree] = [ExecutionTree.load(path) for path in tmp_path.iterdir()]
    assert tree.root.context == "a world"


async def test_instructions_are_refused_where_the_prompt_has_no_place_for_them(tmp_path: Path) -> None:
    async with served(TREE, tmp_path, prompt_style="minimal") as server:
        with pytest.raises(openai.BadRequestError, match="trained without instructions"):
            await server.client.responses.create(model=AGENT, input="say", instructions="Be brief.")


async def test_the_embedded_specialist_crafts_over_the_api(tmp_path: Path) -> None:
    model, environment = EmbeddedModel(), TextCraft()
    agent = Agent(model, limits=Limits(max_depth=environment.max_depth), trace_dir=tmp_path)

    def prepare(goal: str, seed: int | None) -> tuple[Agent, dict[str, Any]]:
        task = environment.task(goal, seed or 0)
        session = environment.session(task)
        return agent.variant(tools=session.tools), {"context": task.context, "score": session.score}

    settings = ServerSettings(port=0)
    app = agent_app(agent, settings, prepare=prepare)
    [task] = environment.tasks("test", 0, level="easy", limit=1)
    async with serving(app, settings) as url, openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any") as client:
        [card] = [card async for card in client.models.list()]
        answer = await client.chat.completions.create(model=card.id, messages=said(task.goal), seed=0, temperature=0)
    told = answer.model_dump()["rao"]
    assert card.id == f"{model.name}-agent"
    assert (told["status"], told["score"]) == ("finished", 1.0)
    [path] = tmp_path.iterdir()
    assert ExecutionTree.load(path).root.goal == task.goal


@pytest.mark.parametrize(("base", "window"), [("base", 32_768), ("gone", None)])
async def test_a_lora_has_the_window_of_its_base_model(tmp_path: Path, base: str, window: int | None) -> None:
    async with served("an answer", tmp_path, raw=True) as server:
        cards = {
            "base": {"id": "base", "parent": None, "max_model_len": 32_768},
            MODEL: {"id": MODEL, "parent": base, "root": "/adapters/a", "max_model_len": None},  # as vLLM lists a LoRA
        }
        server.endpoint.models = tuple(cards)
        server.endpoint._card = lambda name: cards[name]  # type: ignore[method-assign]
        listed = {card.id: card.model_dump() async for card in server.client.models.list()}
        assert listed[MODEL]["max_model_len"] == window
        assert (await server.client.models.retrieve(MODEL)).model_dump()["max_model_len"] == window
