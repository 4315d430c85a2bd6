"""How the embedded engine samples over HTTP: stop strings and tokens, limits, seeds, defaults."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recursive_agent.model import Message
from recursive_agent.model.embedded import SHIPPED

from .engines import IDS, Served

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        not (SHIPPED / "agent.json").is_file(), reason="this checkout ships no policy; `rao train` makes it"
    ),
]

# Stopping


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keep", [False, True])
async def test_a_stop_string_ends_the_answer_as_in_vllm(engine: Served, keep: bool, stream: bool) -> None:
    whole = await engine.choice(temperature=0)
    middle = len(whole["text"]) // 2
    stop = whole["text"][middle : middle + 7]  # begins and ends within tokens
    end = whole["text"].index(stop) + len(stop)
    asked = {"temperature": 0, "stop": ["never said", stop], "include_stop_str_in_output": keep}
    if stream:
        pieces = await streamed(engine, **asked)
        cut: dict[str, Any] = {**pieces[-1]["choices"][0], "token_ids": []}
        cut["text"] = "".join(chunk["choices"][0]["text"] for chunk in pieces)
        for chunk in pieces:
            cut["token_ids"] = cut["token_ids"] + chunk["choices"][0]["token_ids"]
    else:
        cut = await engine.choice(**asked)
    assert cut["text"] == whole["text"][: end if keep else end - len(stop)]
    assert cut["finish_reason"] == "stop"
    assert cut["stop_reason"] == stop
    # The tokens are all those sampled, up to the one that completes the stop string.
    count = len(cut["token_ids"])
    assert cut["token_ids"] == whole["token_ids"][:count]
    decode = engine.model.renderer.decode
    assert stop in decode(cut["token_ids"])
    assert stop not in decode(cut["token_ids"][:-1])


async def streamed(engine: Served, **body: Any) -> list[dict[str, Any]]:
    response = await engine.post(
        "/v1/completions", **{"prompt": engine.prompt, "max_tokens": 60, "stream": True, **IDS, **body}
    )
    assert response.status_code == 200, response.text
    *events, last = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert last == "[DONE]"
    return [json.loads(event) for event in events]


async def test_a_stop_token_ends_the_answer_and_is_left_out(engine: Served) -> None:
    whole = await engine.choice(temperature=0)
    token = whole["token_ids"][5]
    place = whole["token_ids"].index(token)
    cut = await engine.choice(temperature=0, stop_token_ids=[token])
    assert cut["token_ids"] == whole["token_ids"][: place + 1]
    assert (cut["finish_reason"], cut["stop_reason"]) == ("stop", token)
    assert cut["text"] == engine.model.renderer.decode(whole["token_ids"][:place])
    kept = await engine.choice(temperature=0, stop_token_ids=[token], include_stop_str_in_output=True)
    assert kept["text"] == engine.model.renderer.decode(whole["token_ids"][: place + 1])


async def test_the_end_of_the_turn_and_the_limit_are_told_apart(engine: Served) -> None:
    ended = await engine.choice(temperature=0, max_tokens=400)
    assert ended["token_ids"][-1] in engine.model.end_ids
    assert (ended["finish_reason"], ended["stop_reason"]) == ("stop", None)
    assert "<|end|>" not in ended["text"]
    cut = await engine.choice(temperature=0, max_tokens=len(ended["token_ids"]) - 1)
    assert cut["finish_reason"] == "length"
    assert cut["text"] == ended["text"]


async def test_an_answer_is_cut_to_the_room_that_the_prompt_leaves(engine: Served) -> None:
    window = engine.model.window
    body = await engine.complete(prompt=[5] * (window - 3), max_tokens=60, stop_token_ids=[], seed=1, temperature=0)
    assert body["usage"]["total_tokens"] <= window
    unsaid = await engine.choice(prompt=engine.prompt, max_tokens=None, temperature=5.0, seed=1)
    assert len(unsaid["token_ids"]) > 16


# Sampling


async def test_seeds_repeat_and_answers_to_one_prompt_differ_by_theirs(engine: Served) -> None:
    hot = {"temperature": 6.0, "max_tokens": 12}
    both = (await engine.complete(seed=7, n=2, **hot))["choices"]
    for place, choice in enumerate(both):
        assert choice["token_ids"] == (await engine.choice(seed=7 + place, **hot))["token_ids"]
    assert both[0]["token_ids"] != both[1]["token_ids"]
    negative = [await engine.choice(seed=-(2**63), **hot) for _ in range(2)]
    assert negative[0]["token_ids"] == negative[1]["token_ids"]
    assert (await engine.choice(**hot))["token_ids"] != (await engine.choice(**hot))["token_ids"]


async def test_what_a_request_does_not_say_the_checkpoint_does(engine: Served) -> None:
    own = engine.model.sampling.temperature
    assert own not in (None, 1.0)
    unsaid = await engine.choice(seed=2, logprobs=0)
    said = await engine.choice(seed=2, logprobs=0, temperature=own)
    other = await engine.choice(seed=2, logprobs=0, temperature=1.0)
    assert unsaid["logprobs"] == said["logprobs"]
    assert [list(top.values()) for top in said["logprobs"]["top_logprobs"]] == [
        [logprob] for logprob in said["logprobs"]["token_logprobs"]
    ]
    assert unsaid["logprobs"] != other["logprobs"]


async def test_extreme_temperatures_are_survived(engine: Served) -> None:
    greedy = await engine.choice(temperature=0)
    assert (await engine.choice(temperature=1e-300))["text"] == greedy["text"]
    for extreme in (1e300, 5e-324):
        await engine.choice(temperature=extreme, max_tokens=3)
    assert (await engine.choice(temperature=0))["text"] == greedy["text"]


async def test_a_conversation_that_goes_on_is_not_read_again(engine: Served) -> None:
    first = await engine.choice(temperature=0)
    read: list[int] = []
    inner = engine.model.engine.forward

    def counted(step: Any, cache: Any) -> Any:
        read.append(int(step.taken.sum()))
        return inner(step, cache)

    engine.model.engine.forward = counted  # type: ignore[method-assign]
    await engine.choice(prompt=[*engine.prompt, *first["token_ids"], 5, 6], max_tokens=1)
    assert sum(read) <= 4


async def test_tokenize_is_what_the_template_gives(engine: Served) -> None:
    message = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    answered = (await engine.post("/tokenize", messages=[message])).json()
    assert answered["tokens"] == engine.model.renderer.encode([Message("user", "ab")])
    assert (answered["count"], answered["max_model_len"]) == (len(answered["tokens"]), engine.model.window)
    developer = (await engine.post("/tokenize", messages=[{"role": "developer", "content": "a"}])).json()
    assert developer["tokens"] == engine.model.renderer.encode([Message("system", "a")])
    text = (await engine.post("/tokenize", prompt="craft", return_token_strs=True)).json()
    assert len(text["token_strs"]) == text["count"] > 0
