"""Errors: the right class, one sentence that helps, and never the key."""

import traceback
from typing import Any

import pytest

from recursive_agent.errors import (
    AuthenticationFailed,
    BadRequest,
    CapabilityMissing,
    ConfigurationError,
    ContextOverflow,
    EndpointUnavailable,
    ModelError,
    ModelNotFound,
)
from recursive_agent.model import Endpoint, Message, connect, resolve_endpoint
from recursive_agent.model.failures import rejected
from recursive_agent.testing import Fault, FaultKind

from .conftest import KEY, USER, serving


async def failure(model: Any) -> ModelError:
    conversation = model.conversation()
    conversation.add(USER)
    with pytest.raises(ModelError) as caught:
        await conversation.complete(max_tokens=10)
    return caught.value


@pytest.mark.anyio
async def test_a_refused_key_is_one_sentence_without_the_key(interface: str) -> None:
    async with serving("x", interface=interface, api_key="another") as (endpoint, model):
        error = await failure(model)
        assert type(error) is AuthenticationFailed
        assert error.fatal
        assert endpoint.base_url in str(error)
        assert "OPENAI_API_KEY" in str(error)
        shown = "".join(traceback.format_exception(error)) + repr(error) + repr(model) + str(vars(error))
        assert KEY not in shown


@pytest.mark.anyio
async def test_no_error_tells_the_key() -> None:
    faults = [Fault.http(status, f"bad key {KEY} and {KEY}") for status in (400, 403, 404, 500)]
    for fault in faults:
        async with serving(fault) as (_, model):
            error = await failure(model)
            assert KEY not in "".join(traceback.format_exception(error)) + repr(error)
            chained: list[BaseException | None] = [error.__cause__, error.__context__]
            assert all(KEY not in repr(link) for link in chained)


@pytest.mark.anyio
async def test_an_unknown_model_is_told_with_what_is_on_offer(interface: str) -> None:
    async with serving("x", interface=interface, model="gpt-9", models=["small", "large"]) as (endpoint, model):
        error = await failure(model)
        assert type(error) is ModelNotFound
        assert error.fatal
        assert str(error) == f"{endpoint.base_url} has no model 'gpt-9'; on offer: small, large."


@pytest.mark.anyio
async def test_a_base_url_without_v1_is_recognised() -> None:
    async with serving("x") as (endpoint, _):
        root = endpoint.base_url.removesuffix("/v1")
        model = connect(resolve_endpoint("scripted", root))
        error = await failure(model)
        await model.aclose()
        assert type(error) is ModelNotFound
        assert "ends in /v1" in str(error)


@pytest.mark.anyio
async def test_a_refused_request_is_told_with_the_endpoints_reason() -> None:
    async with serving(Fault.http(422, "temperature must be below 2", type="BadRequestError")) as (_, model):
        error = await failure(model)
        assert type(error) is BadRequest
        assert not error.fatal
        assert "temperature must be below 2" in str(error)


@pytest.mark.anyio
@pytest.mark.parametrize("fault", [Fault.http(429, code="insufficient_quota"), Fault.http(402, "no balance")])
async def test_an_empty_account_is_not_waited_for(fault: Fault) -> None:
    async with serving(fault) as (endpoint, model):
        error = await failure(model)
        assert error.fatal
        assert "quota" in str(error)
        assert len(endpoint.requests) == 1


OVERFLOWS = [
    (400, {"code": "context_length_exceeded", "message": "too much"}),
    (
        400,
        {"message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 128105."},
    ),
    (400, {"message": "The decoder prompt (length 5000) is longer than the maximum model length of 4096."}),
    (400, {"type": "exceed_context_size_error", "message": "request (9000 tokens) exceeds the available context size"}),
    (500, {"message": "the request exceeds the available context size, try increasing it"}),
    (400, {"message": "prompt too long; exceeded max context length by 12 tokens"}),
    (400, {"message": "prompt is too long: 200251 tokens > 200000 maximum"}),
    (422, {"message": "Input is too long for requested model."}),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("status", "body"), OVERFLOWS)
async def test_context_overflow_is_recognised_in_every_wording(status: int, body: dict[str, str]) -> None:
    fault = Fault.http(status, body["message"], type=body.get("type", ""), code=body.get("code"))
    async with serving(fault) as (endpoint, model):
        assert type(await failure(model)) is ContextOverflow
        assert len(endpoint.requests) == 1


@pytest.mark.parametrize("message", ["rate limited", "the model is overloaded", "max_tokens must be positive"])
def test_other_refusals_are_no_overflow(message: str) -> None:
    assert not rejected(400, {"error": {"message": message}}, {}, wait=0, secret="").is_overflow


def test_overflow_messages_tell_both_sizes() -> None:
    for message in (
        "This model's maximum context length is 100 tokens. However, you requested 50 output tokens and your prompt "
        "contains 60 input tokens, for a total of 110 tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 50. This model's maximum context length is 100 tokens and "
        "your request has 60 input tokens (50 > 100 - 60).",
        "This model's maximum context length is 100 tokens. However, you requested 110 tokens (60 in the messages, 50 in "
        "the completion).",
    ):
        assert rejected(400, {"error": {"message": message}}, {}, wait=0, secret="").sizes() == (100, 60, True)
    least = "maximum context length is 100 tokens. However, ... your prompt contains at least 51 input tokens"
    assert rejected(400, least, {}, wait=0, secret="").sizes() == (100, 51, False)
    characters = "maximum context length is 100 tokens. However, ... your prompt contains 5000 characters"
    assert rejected(400, characters, {}, wait=0, secret="").sizes() is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "m", "code": "c"}}, "m"),
        ({"error": "ollama says no"}, "ollama says no"),
        ({"detail": "fastapi says no"}, "fastapi says no"),
        ({"message": "flat"}, "flat"),
        ("plain\ntext", "plain text"),
        (None, ""),
        (["odd"], "odd"),
    ],
)
def test_every_shape_of_error_body_is_read(body: Any, said: str) -> None:
    assert rejected(400, body, {}, wait=0, secret="").message == said


@pytest.mark.anyio
async def test_a_prompt_that_fills_the_window_overflows_before_it_is_sent() -> None:
    async with serving("x", interface="tokens", max_model_len=60) as (endpoint, model):
        conversation = model.conversation()
        empty = await _size(model, "")
        conversation.add(Message("user", "\x01" * (59 - empty)))
        assert await conversation.prompt_tokens() == 59, "one token is left"
        assert (await conversation.complete(max_tokens=10)).finish_reason == "length"
        full = model.conversation()
        full.add(Message("user", "\x01" * (60 - empty)))
        with pytest.raises(ContextOverflow, match="60"):
            await full.complete(max_tokens=10)
        assert len(endpoint.requests) == 1, "the second one never left"


async def _size(model: Any, text: str) -> int:
    conversation = model.conversation()
    conversation.add(Message("user", text))
    return int(await conversation.prompt_tokens())


@pytest.mark.anyio
async def test_a_prompt_beyond_the_window_overflows_in_chat_too() -> None:
    async with serving("x", max_model_len=60) as (_, model):
        conversation = model.conversation()
        conversation.add(Message("user", "\x01" * 200))
        with pytest.raises(ContextOverflow):
            await conversation.complete(max_tokens=10)


@pytest.mark.anyio
async def test_an_endpoint_without_token_ids_is_told_apart() -> None:
    fault = Fault(FaultKind.NO_TOKEN_IDS, reply="text only")
    async with serving(fault, interface="tokens") as (endpoint, model):
        error = await failure(model)
        assert type(error) is CapabilityMissing
        assert "interface='chat'" in str(error)
        assert error.unconfirmed == endpoint.ledger.total_tokens, "the answer was paid for"


@pytest.mark.anyio
async def test_native_tools_are_refused_in_the_tokens_interface() -> None:
    async with serving("x", interface="tokens") as (_, model):
        with pytest.raises(ConfigurationError, match="chat"):
            model.conversation(tools=[{"type": "function"}])


@pytest.mark.anyio
async def test_an_endpoint_that_is_down_is_told_in_one_sentence() -> None:
    model = connect(resolve_endpoint("m", "http://127.0.0.1:9/v1"), max_retries=0)
    error = await failure(model)
    assert type(error) is EndpointUnavailable
    assert str(error).startswith("http://127.0.0.1:9/v1 gave no usable answer in one attempt")
    assert await model.context_length() is None
    await model.aclose()


def test_what_was_not_given_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAO_MODEL", "env-model")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://env.example/v1/")
    monkeypatch.setenv("OPENAI_API_KEY", "env-key")
    assert resolve_endpoint() == Endpoint("env-model", "https://env.example/v1", "env-key")
    assert resolve_endpoint("m", "http://localhost:1/v1", "k") == Endpoint("m", "http://localhost:1/v1", "k")


@pytest.mark.parametrize(
    "url", ["http://localhost:8000/v1", "http://127.0.0.1:1/v1", "http://[::1]:1/v1", "http://vllm:8000/v1",
            "http://10.1.2.3/v1", "http://gpu.local/v1"],
)  # fmt: skip
def test_local_endpoints_need_no_key(url: str) -> None:
    assert resolve_endpoint("m", url).api_key


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((None, "http://localhost/v1"), "RAO_MODEL"),
        (("m",), "OPENAI_BASE_URL"),
        (("m", "https://api.example.com/v1"), "No API key for https://api.example.com/v1"),
        (("m", "localhost:8000/v1"), "http://"),
        (("m", "ftp://x/v1"), "http://"),
        (("m", "http://localhost:99999/v1"), "http://"),
        (("m", "http://localhost/v1", "a\nb"), "key"),
        (("m", "http://localhost/v1", "schlüssel"), "key"),
    ],
)
def test_what_is_missing_or_wrong_is_one_clear_sentence(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        resolve_endpoint(*arguments)


def test_openai_is_the_default_where_there_is_a_key() -> None:
    assert resolve_endpoint("m", None, "k").base_url == "https://api.openai.com/v1"


def test_reprs_and_urls_hold_no_secret() -> None:
    endpoint = resolve_endpoint("m", "https://user:hunter2@host.example/v1?token=t0p", KEY)
    model = connect(endpoint)
    for shown in (repr(endpoint.shown_url), repr(endpoint), repr(model)):
        assert "hunter2" not in shown
        assert "t0p" not in shown
    assert KEY not in repr(endpoint)
