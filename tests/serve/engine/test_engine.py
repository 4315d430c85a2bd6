"""The embedded engine over HTTP, for the official client, our own, and an agent."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from rao_rl.envs.textcraft import TextCraft
from recursive_agent import Agent, Limits, Status
from recursive_agent.errors import ContextOverflow, ModelNotFound
from recursive_agent.model import Message, Model, Sampling, connect, resolve_endpoint
from recursive_agent.model.base import Completion
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.template import CheckpointRenderer

from .engines import GOAL, IDS, MESSAGES, NAME, Served

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not (SHIPPED / "agent.json").is_file(), reason="this checkout ships no policy; `rao train` makes it"
    ),
]

# The official client


async def test_the_official_client_lists_the_model(engine: Served) -> None:
    models = [model async for model in engine.openai.models.list()]
    assert [model.id for model in models] == [NAME]
    assert (models[0].model_extra or {})["max_model_len"] == engine.model.window
    assert (await engine.openai.models.retrieve(NAME)).id == NAME
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        await engine.openai.models.retrieve("other/model")


async def test_the_official_client_chats(engine: Served) -> None:
    answer = await engine.openai.chat.completions.create(
        model=NAME, messages=MESSAGES, seed=1, n=2, logprobs=True, max_completion_tokens=40, extra_body=IDS
    )
    assert len(answer.choices) == 2
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(engine.prompt)
    assert (answer.model_extra or {})["prompt_token_ids"] == engine.prompt
    assert answer.system_fingerprint == engine.model.version
    sampled = 0
    for choice in answer.choices:
        token_ids = (choice.model_extra or {})["token_ids"]
        sampled += len(token_ids)
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert len(choice.logprobs.content) == len(token_ids)
        assert (
            "".join(token.token for token in choice.logprobs.content).removesuffix("<|end|>") == choice.message.content
        )
        assert choice.finish_reason == ("stop" if token_ids[-1] in engine.model.end_ids else "length")
    assert answer.usage.completion_tokens == sampled


async def test_the_official_client_gets_the_same_by_stream(engine: Served) -> None:
    asked: Any = {
        "model": NAME, "messages": MESSAGES, "seed": 5, "n": 3, "logprobs": True, "temperature": 2.0, "max_tokens": 40,
        "extra_body": IDS,
    }  # fmt: skip
    whole = await engine.openai.chat.completions.create(**asked)
    stream = await engine.openai.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    texts, token_ids, logprobs, reasons = [""] * 3, [[], [], []], [[], [], []], [None] * 3  # type: ignore[var-annotated]
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.role for chunk in chunks[:3]] == ["assistant"] * 3
    assert all((chunk.model_extra or {})["prompt_token_ids"] == engine.prompt for chunk in chunks[:3])
    for chunk in chunks[:-1]:
        assert chunk.usage is None
        (choice,) = chunk.choices
        assert reasons[choice.index] is None, "said something after its end"
        texts[choice.index] += choice.delta.content or ""
        token_ids[choice.index] += (choice.model_extra or {}).get("token_ids") or []
        logprobs[choice.index] += [] if choice.logprobs is None else choice.logprobs.content or []
        reasons[choice.index] = choice.finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert texts == [choice.message.content for choice in whole.choices]
    assert token_ids == [(choice.model_extra or {})["token_ids"] for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    for streamed, choice in zip(logprobs, whole.choices, strict=True):
        assert choice.logprobs is not None
        expected = choice.logprobs.content or []
        assert [token.token for token in streamed] == [token.token for token in expected]
        assert [token.logprob for token in streamed] == pytest.approx([token.logprob for token in expected], abs=1e-4)


async def test_the_official_client_continues_texts_and_ids(engine: Served) -> None:
    text = engine.model.renderer.text([Message("user", GOAL)], generation_prompt=True)
    asked: Any = {"model": NAME, "seed": 3, "temperature": 1.0, "max_tokens": 20, "logprobs": 1, "extra_body": IDS}
    by_ids = await engine.openai.completions.create(prompt=engine.prompt, **asked)
    by_text = await engine.openai.completions.create(prompt=text, **asked)
    several = await engine.openai.completions.create(prompt=[engine.prompt, engine.prompt[:-1]], n=2, **asked)
    (one,), (other,) = by_ids.choices, by_text.choices
    assert one.text == other.text
    extra = one.model_extra or {}
    assert extra["prompt_token_ids"] == engine.prompt
    assert one.logprobs is not None
    assert len(one.logprobs.token_logprobs or ()) == len(extra["token_ids"]) == len(one.logprobs.text_offset or ())
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    assert several.choices[0].text == one.text
    assert [len((choice.model_extra or {})["prompt_token_ids"]) for choice in several.choices] == [
        len(engine.prompt), len(engine.prompt), len(engine.prompt) - 1, len(engine.prompt) - 1
    ]  # fmt: skip
    assert several.usage is not None
    assert several.usage.prompt_tokens == 2 * len(engine.prompt) - 1
    stream = await engine.openai.completions.create(prompt=engine.prompt, stream=True, **asked)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == one.text


# Our own client


async def talk(model: Model, *, streamed: bool) -> list[Completion]:
    conversation = model.conversation()
    conversation.add(Message("user", GOAL))
    answers = []
    for turn in range(3):
        pieces: list[str] = []
        on_text = pieces.append if streamed else None
        answers.append(await conversation.complete(max_tokens=60, seed=40 + turn, on_text=on_text))
        assert not streamed or "".join(pieces) == answers[-1].text
        conversation.add(Message("user", "({'ingredients': {'oak_rod': 1}, 'yields': 1}, [])"))
    return answers


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("rendered", ["here", "there"])
async def test_the_tokens_interface_samples_exactly_what_the_model_itself_does(
    engine: Served, rendered: str, streamed: bool
) -> None:
    sampling = Sampling(temperature=1.0, top_p=0.9)
    renderer = CheckpointRenderer(SHIPPED) if rendered == "here" else None
    remote = connect(
        resolve_endpoint(NAME, f"{engine.url}/v1"), interface="tokens", sampling=sampling, renderer=renderer
    )
    try:
        over_http = await talk(remote, streamed=streamed)
    finally:
        await remote.aclose()
    for one, other in zip(over_http, await talk(EmbeddedModel(sampling=sampling), streamed=False), strict=True):
        assert list(one.prompt_token_ids or ()) == list(other.prompt_token_ids or ())
        assert one.token_ids == other.token_ids
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert (one.text, one.finish_reason, one.version) == (other.text, other.finish_reason, other.version)
        assert one.usage == other.usage


async def test_the_sdk_understands_what_is_refused(engine: Served) -> None:
    for name, goal, expected in ((NAME, "a " * 3000, ContextOverflow), ("other", "a", ModelNotFound)):
        for interface in ("tokens", "chat"):
            model = connect(resolve_endpoint(name, f"{engine.url}/v1"), interface=interface)
            conversation = model.conversation()
            conversation.add(Message("user", goal))
            with pytest.raises(expected):
                await conversation.complete(max_tokens=5)
            await model.aclose()


async def test_the_chat_interface_works_with_its_own_defaults(engine: Served) -> None:
    model = connect(resolve_endpoint(NAME, f"{engine.url}/v1"))
    conversation = model.conversation()
    conversation.add(Message("user", GOAL))
    pieces: list[str] = []
    answer = await conversation.complete(max_tokens=4096, seed=1, on_text=pieces.append)
    await model.aclose()
    assert "".join(pieces) == answer.text != ""
    assert answer.usage.prompt_tokens == len(engine.prompt)
    assert answer.version == engine.model.version


async def test_an_agent_solves_a_task_over_http(engine: Served) -> None:
    environment = TextCraft()
    outcomes = []
    for task in environment.tasks("test", 0, level="easy", limit=4):
        session = environment.session(task)
        agent = Agent(
            NAME, f"{engine.url}/v1", interface="tokens", tools=session.tools, prompt_style="minimal",
            limits=Limits(max_depth=environment.max_depth),
        )  # fmt: skip
        result = await agent.solve(task.goal, seed=0, score=session.score)
        outcomes.append((result.status, result.tree.root.score))
        for node in result.tree.nodes.values():
            for step in node.steps:
                assert step.model is not None
                assert step.model.token_ids
    # How often the policy succeeds is measured elsewhere; that it does is the point here.
    assert (Status.FINISHED, 1.0) in outcomes
