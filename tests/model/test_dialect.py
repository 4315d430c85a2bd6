"""What errors mean, in the wording of every provider, whole and streamed, with status 200 or another."""

import json
from typing import Any

import anyio
import pytest

from recursive_agent.errors import (
    AuthenticationFailed,
    BadRequest,
    ContextOverflow,
    EndpointUnavailable,
    ModelError,
    ModelNotFound,
)
from recursive_agent.model.dialect import Trouble, answer_cap, sizes_of, trouble_of
from recursive_agent.model.error_body import read_error

from .conftest import USER
from .raw import answering, chat, delta, events, http, last, model_at, refusal

OVERFLOWS = {
    "OpenAI": (400, "This model's maximum context length is 1000 tokens. However, your messages resulted in 2000 tokens."),
    "OpenAI, new": (400, "Your input exceeds the context window of this model. Please adjust your input and try again."),
    "Azure": (400, "Input tokens exceed the configured limit of 1000 tokens. Your messages resulted in 2000 tokens."),
    "Anthropic": (400, "prompt is too long: 200251 tokens > 200000 maximum"),
    "Anthropic, beta": (429, "Extra usage is required for long context requests."),
    "Bedrock": (400, "Input is too long for requested model."),
    "Bedrock, Llama": (400, "This model's maximum context length is 8192 tokens. Please reduce the length of the prompt"),
    "Bedrock, Mistral": (400, "too many input tokens: 40000 > 32000"),
    "Gemini": (400, "The input token count (1200) exceeds the maximum number of tokens allowed (1000)."),
    "Vertex": (400, "The input token count exceeds the maximum number of tokens allowed 1000."),
    "Mistral": (400, "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length"),
    "Cohere": (400, "too many tokens: total number of tokens in the prompt cannot exceed 1000"),
    "xAI": (400, "This model's maximum prompt length is 1000 but the request contains 2000 tokens."),
    "Perplexity": (400, "The total length of all messages is too long."),
    "Zhipu": (400, "Prompt exceeds max length"),
    "Zhipu, in Chinese": (400, "输入内容超过最大长度限制"),
    "Qwen": (400, "Range of input length should be [1, 30720]"),
    "DeepSeek": (400, "This model's maximum context length is 65536 tokens. However, you requested 70000 tokens (69000 in the "
                      "messages, 1000 in the completion). Please reduce the length of the messages or completion."),
    "Moonshot": (400, "Invalid request: Your request exceeded model token limit: 1000 (requested: 9000)"),
    "Groq": (413, "Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 18000, please reduce your "
                  "message size and try again."),
    "OpenAI, a minute": (429, "Request too large for gpt-4 on tokens per min (TPM): Limit 10000, Requested 22000. The input or "
                              "output tokens must be reduced in order to run successfully."),
    "Together": (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1000."),
    "Together, inputs": (422, "Input validation error: `inputs` must have less than 1000 tokens. Given: 2000"),
    "Fireworks": (400, "The prompt is too long: 2000, model maximum context length: 1000"),
    "OpenRouter, free": (402, "Prompt tokens limit exceeded: 2000 > 1000. To increase, visit the settings"),
    "LiteLLM": (400, "litellm.ContextWindowExceededError: litellm.BadRequestError: OpenAIException - Your input is long"),
    "vLLM, old": (400, "This model's maximum context length is 100 tokens. However, you requested 300 tokens (250 in the "
                       "messages, 50 in the completion)."),
    "vLLM, new": (400, "The decoder prompt (length 5000) is longer than the maximum model length of 4096."),
    "SGLang": (400, "Input length (2000 tokens) exceeds the maximum allowed length (1000 tokens)."),
    "SGLang, context": (400, "The input (2000 tokens) is longer than the model's context length (1000 tokens)."),
    "llama.cpp": (400, "request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it"),
    "llama.cpp, 500": (500, "the request exceeds the available context size, try increasing it"),
    "Ollama": (400, "prompt too long; exceeded max context length by 12 tokens"),
    "Ollama, new": (400, "input length exceeds the context length"),
    "LM Studio": (400, "Trying to keep the first 2000 tokens when context the overflows. However, the model is loaded with "
                       "context length of only 1000 tokens"),
    "LM Studio, initial": (400, "The number of tokens to keep from the initial prompt is greater than the context length"),
    "TensorRT-LLM": (400, "Prompt length (2000) exceeds maximum input length (1000). Set log level to info"),
    "Databricks": (400, "Input prompt length is too long: 2000 tokens, max_seq_len 1000"),
    "a proxy": (413, "Request Entity Too Large"),
    "a proxy without words": (413, ""),
    "a page of a proxy": (413, "a web page instead of JSON"),
}  # fmt: skip


@pytest.mark.parametrize("provider", OVERFLOWS)
def test_a_full_window_is_recognised(provider: str) -> None:
    status, message = OVERFLOWS[provider]
    assert trouble_of(status, read_error({"error": {"message": message}})) is Trouble.OVERFLOW


@pytest.mark.parametrize("code", ["context_length_exceeded", "model_context_window_exceeded"])
def test_a_full_window_is_recognised_by_its_code(code: str) -> None:
    assert trouble_of(400, read_error({"error": {"message": "no", "code": code}})) is Trouble.OVERFLOW


@pytest.mark.parametrize(
    ("message", "asked", "sizes"),
    [
        ("input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease", 20000, (200000, 190000)),
        ("prompt is too long: 200251 tokens > 200000 maximum", 50, (200000, 200251)),
        ("`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 6000 `inputs` tokens and 4096 `max_new_tokens`", 4096,
         (8192, 6000)),
        ("Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 10096 "
         "tokens: 6000 tokens from the input messages and 4096 tokens for the completion.", 4096, (8192, 6000)),
        ("This endpoint's maximum context length is 8192 tokens. However, you requested about 10096 tokens (6000 of text "
         "input, 4096 in the output).", 4096, (8192, 6000)),
        ("This model's maximum context length is 8,192 tokens. However, you requested 10,096 tokens.", 4096, (8192, 6000)),
        ("on tokens per minute (TPM): Limit 6000, Requested 8096, please reduce", 4096, (6000, 4000)),
        ("request (9000 tokens) exceeds the available context size (4096 tokens)", 50, (4096, 9000)),
        ("Input length (2000 tokens) exceeds the maximum allowed length (1000 tokens).", 50, (1000, 2000)),
        ("The input token count (1200) exceeds the maximum number of tokens allowed (1000).", 50, (1000, 1200)),
        ("This model's maximum prompt length is 1000 but the request contains 2000 tokens.", 50, (1000, 2000)),
        ("Your request exceeded model token limit: 8192 (requested: 10096)", 4096, (8192, 6000)),
    ],
)  # fmt: skip
def test_sizes_are_read_where_they_are_named(message: str, asked: int, sizes: tuple[int, int]) -> None:
    found = sizes_of(message, asked)
    assert found is not None
    assert (found.window, found.prompt) == sizes


@pytest.mark.parametrize(
    ("message", "cap"),
    [
        ("max_tokens is too large: 4096. This model supports at most 2048 completion tokens, whereas you provided", 2048),
        ("max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for claude", 8192),
        ("Range of max_tokens should be [1, 2000]", 2000),
        ("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]", 8192),
        ("`max_tokens` must be less than or equal to `4000`, the maximum value", 4000),
        ("max_completion_tokens must be at most 1024", 1024),
        ("This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens, but can only afford 1200",
         1200),
        ("max_tokens must be positive", None),
    ],
)  # fmt: skip
def test_the_longest_answer_is_read_where_it_is_named(message: str, cap: int | None) -> None:
    assert answer_cap(message) == cap
    trouble = trouble_of(402 if "credits" in message else 400, read_error({"error": {"message": message}}))
    assert (trouble is Trouble.ANSWER) == (cap is not None)


TROUBLES = [
    (Trouble.KEY, 401, {"message": "Incorrect API key provided"}),
    (Trouble.KEY, 403, {"message": "Invalid API key"}),
    (Trouble.KEY, 400, {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}),
    (Trouble.QUOTA, 429, {"message": "x", "code": "insufficient_quota"}),
    (Trouble.QUOTA, 429, {"message": "x", "type": "exceeded_current_quota_error"}),
    (Trouble.QUOTA, 402, {"message": "Insufficient Balance"}),
    (Trouble.QUOTA, 400, {"message": "Your credit balance is too low to access the API."}),
    (Trouble.QUOTA, 403, {"message": "Your team doesn't have any credits yet."}),
    (Trouble.RATE, 429, {"message": "Rate limit exceeded", "code": 429}),
    (Trouble.RATE, 429, {"message": "You exceeded your current quota. Please retry in 30s.", "status": "RESOURCE_EXHAUSTED"}),
    (Trouble.RATE, 529, {"message": "Overloaded", "type": "overloaded_error"}),
    (Trouble.RATE, 503, {"message": "The model is overloaded. Please try again later.", "status": "UNAVAILABLE"}),
    (Trouble.RATE, 0, {"message": "Overloaded", "type": "overloaded_error"}),
    (Trouble.RATE, 0, {"message": "slow", "code": 429}),
    (Trouble.RATE, 500, {"message": "slow", "code": 429}),
    (Trouble.SERVER, 500, {"message": "The server had an error"}),
    (Trouble.SERVER, 503, {"message": "Service Unavailable"}),
    (Trouble.SERVER, 0, {"message": "Internal error", "code": 502}),
    (Trouble.SERVER, 0, {"message": "upstream failed"}),
    (Trouble.MODEL, 404, {"message": "The model `x` does not exist"}),
    (Trouble.MODEL, 404, {}),
    (Trouble.MODEL, 400, {"message": "x is not a valid model ID; unknown model"}),
    (Trouble.FLAGGED, 403, {"message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}),
    (Trouble.FLAGGED, 403, {"message": "x", "metadata": {"reasons": ["violence"]}}),
    (Trouble.FLAGGED, 400, {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
                                       "management policy", "code": "content_filter"}),
    (Trouble.FLAGGED, 400, {"message": "Content Exists Risk"}),
    (Trouble.FLAGGED, 400, {"message": "Output data may contain inappropriate content.", "code": "data_inspection_failed"}),
    (Trouble.FLAGGED, 400, {"message": "Your request was rejected as a result of our safety system."}),
    (Trouble.FLAGGED, 400, {"message": "系统检测到输入或生成内容可能包含不安全或敏感内容", "code": "1301"}),
    (Trouble.REQUEST, 403, {"message": "Country, region, or territory not supported"}),
    (Trouble.REQUEST, 403, {"message": "Key limit exceeded (daily limit)."}),
    (Trouble.REQUEST, 403, {"message": "Forbidden"}),
    (Trouble.REQUEST, 404, {"message": "No endpoints found that support tool use."}),
    (Trouble.REQUEST, 404, {"message": "No endpoints found matching your data policy."}),
    (Trouble.REQUEST, 400, {"message": "temperature must be below 2"}),
    (Trouble.REQUEST, 0, {"message": "bad", "type": "invalid_request_error"}),
    (Trouble.REQUEST, 500, {"message": "System role not supported"}),
]  # fmt: skip


@pytest.mark.parametrize(("trouble", "status", "error"), TROUBLES)
def test_errors_mean_what_they_say(trouble: Trouble, status: int, error: dict[str, Any]) -> None:
    assert trouble_of(status, read_error({"error": error})) is trouble


SHAPES = {
    "OpenAI": {"error": {"message": "said", "code": "c", "type": "t"}},
    "Google's list": [{"error": {"message": "said", "code": 400, "status": "INVALID_ARGUMENT"}}],
    "a string": {"error": "said"},
    "flat": {"message": "said", "code": 3},
    "FastAPI": {"detail": "said"},
    "FastAPI's list": {"detail": [{"loc": ["body", "x"], "msg": "said", "type": "missing"}]},
    "vLLM, old": {"object": "error", "message": "said", "type": "BadRequestError", "code": 400},
    "errors": {"errors": [{"message": "said"}]},
    "OpenRouter": {"error": {"message": "Provider returned error", "code": 400,
                             "metadata": {"raw": json.dumps({"error": {"message": "said"}}), "provider_name": "X"}}},
    "JSON in a string": {"error": {"message": json.dumps({"error": {"message": "said"}})}},
    "JSON behind words": {"error": {"message": "upstream: " + json.dumps({"error": {"message": "said"}})}},
    "twice in a string": {"error": json.dumps({"error": {"message": json.dumps({"message": "said"})}})},
    "a bare list": ["said"],
    "Anthropic": {"type": "error", "error": {"type": "invalid_request_error", "message": "said"}},
    "a bare string": "said",
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_an_error_is_read(shape: str) -> None:
    said = read_error(SHAPES[shape]).message
    assert "said" in said
    assert "{" not in said


def test_errors_of_no_shape_are_read_too() -> None:
    nested: Any = "x"
    for _ in range(200):
        nested = {"error": nested}
    for body in (nested, [[]], {"error": []}, {"error": {"message": {"a": [1]}}}, 5, None, True, {"error": True}, []):
        assert isinstance(read_error(body).message, str)


WITHIN = [
    (ContextOverflow, {"message": "maximum context length is 10 tokens", "code": 400}),
    (AuthenticationFailed, {"message": "x", "code": 401}),
    (AuthenticationFailed, {"message": "x", "code": "insufficient_quota"}),
    (BadRequest, {"message": "flagged by moderation", "code": 403}),
    (BadRequest, {"message": "x", "type": "invalid_request_error"}),
    (EndpointUnavailable, {"message": "upstream failed", "code": 502}),
    (EndpointUnavailable, "just words"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "error"), WITHIN)
@pytest.mark.parametrize(
    "where", ["in a 200", "as a list", "in a choice", "in a stream", "in mid-stream", "as a bare line"]
)
async def test_an_error_within_an_answer_is_read_like_any_other(kind: type[ModelError], error: Any, where: str) -> None:
    choice = {"index": 0, "message": {"content": ""}, "finish_reason": "error", "error": error}
    answer = {
        "in a 200": http({"error": error}),
        "as a list": http([{"error": error}]),
        "in a choice": http({"choices": [choice], "usage": {}}),
        "in a stream": events({"error": error}),
        "in mid-stream": events(delta(content="so far"), {"error": error}, last()),
        "as a bare line": http(f"data: {json.dumps(delta(content='x'))}\n\n{json.dumps({'error': error})}\n\n".encode(),
                               kind="text/event-stream"),
    }[where]  # fmt: skip
    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            on_text = (lambda _: None) if "stream" in where or "line" in where else None
            with pytest.raises(ModelError) as caught:
                await conversation.complete(max_tokens=100, on_text=on_text)
    assert type(caught.value) is kind
    assert (caught.value.unconfirmed > 0) == (kind is EndpointUnavailable), "what was refused was not billed"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "error", "fatal"),
    [
        ("401 U", {"message": "bad key"}, True),
        ("403 F", {"message": "Invalid API key"}, True),
        ("402 P", {"message": "Insufficient Balance"}, True),
        ("403 F", {"message": "Your input was flagged"}, False),
        ("403 F", {"message": "Forbidden"}, False),
        ("403 F", {"message": "This model is not available in your region"}, False),
        ("402 P", {"message": "Prompt tokens limit exceeded: 900 > 10"}, False),
        ("404 N", {"message": "No endpoints found that support tool use"}, False),
        ("404 N", {"message": "The model `m` does not exist"}, True),
    ],
)
async def test_only_a_dead_key_or_model_ends_the_tree(status: str, error: dict[str, Any], fatal: bool) -> None:
    with answering(http({"error": error}, status)) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            with pytest.raises(ModelError) as caught:
                await conversation.complete(max_tokens=16)
    assert caught.value.fatal == fatal
    assert ("API key" in str(caught.value)) == (status[:3] == "401" or "API key" in error["message"])


@pytest.mark.anyio
async def test_a_404_after_an_answer_is_about_the_call() -> None:
    with answering(lambda body, n: chat("hi") if n == 0 else refusal("Not Found", "404 Not Found")) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            await conversation.complete(max_tokens=16)
            conversation.add(USER)
            with pytest.raises(BadRequest) as caught:
                await conversation.complete(max_tokens=16)
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            with pytest.raises(ModelError) as first:
                await conversation.complete(max_tokens=16)
    assert not caught.value.fatal
    assert first.value.fatal
    assert not isinstance(first.value, ModelNotFound), "the list of models has it: the path is missing"


SHORTER = {
    "sum": "`inputs` tokens + `max_new_tokens` must be <= 8192.",
    "sizes": "maximum context length is 8192 tokens. However, you requested {all} tokens (6000 in the messages, {answer} in "
             "the completion).",
    "total": "This model's maximum context length is 8192 tokens. However, you requested {all} tokens.",
    "cap": "max_tokens is too large: {answer}. This model supports at most 2000 completion tokens.",
    "words": "max_tokens is too large",
    "afford": "You requested up to {answer} tokens, but can only afford 2000.",
}  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("name", SHORTER)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_too_long_is_asked_for_again_and_shorter(name: str, streamed: bool) -> None:
    def answer(body: Any, n: int) -> bytes:
        wanted = body["max_tokens"]
        if wanted <= 2192:
            return events(delta(content="fits"), last()) if streamed else chat("fits")
        said = SHORTER[name].format(answer=wanted, all=6000 + wanted)
        return refusal(said, "402 P" if name == "afford" else "400 B")

    with answering(answer) as server:
        async with model_at(server.base_url) as model:
            for _ in range(2):
                conversation = model.conversation()
                conversation.add(USER)
                on_text = (lambda _: None) if streamed else None
                completion = await conversation.complete(max_tokens=4096, on_text=on_text)
                assert (completion.text, completion.attempts) == ("fits", 1)
    assert server.bodies[-1]["max_tokens"] >= 1024, "no shorter than it has to be"
    if name == "cap":
        assert len(server.bodies) == 3, "learnt once"


@pytest.mark.anyio
async def test_an_answer_that_no_length_suits_ends_soon() -> None:
    for message, kind in (
        ("max_tokens is too large", BadRequest),
        ("`inputs` tokens + `max_new_tokens` must be", ContextOverflow),
    ):
        with answering(refusal(message)) as server:
            async with model_at(server.base_url) as model:
                conversation = model.conversation()
                conversation.add(USER)
                with anyio.fail_after(30), pytest.raises(kind):
                    await conversation.complete(max_tokens=4096)
            assert len(server.bodies) <= 10
