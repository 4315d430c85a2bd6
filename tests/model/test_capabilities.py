"""What an endpoint really does: seen in its answers, whatever status they come with."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import anyio
import pytest

from recursive_agent.errors import AuthenticationFailed, EndpointUnavailable, ModelNotFound
from recursive_agent.model import Endpoint, capabilities
from recursive_agent.model.capabilities import MOST_REQUESTS, MOST_TOKENS, Capabilities, probe
from recursive_agent.model.samples import Samples
from recursive_agent.testing import Answer, Fault, FaultKind, Reply, Request, ScriptedEndpoint, ScriptedTokenizer
from recursive_agent.usage import Usage
from tests.waiting import until

pytestmark = pytest.mark.anyio

FIELDS = {field.name for field in fields(Capabilities)} - {"problems", "usage"}
TOKEN_FIELDS = {"token_prompts", "token_ids", "logprobs", "scaled_logprobs"}
WORDS = ("red fox", "blue whale", "green frog", "black cat", "white dove", "brown bear", "grey wolf", "pink crab")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports are used again."""
    monkeypatch.setattr(capabilities, "_known", {})


class Capable:
    """A script for an endpoint that can do everything; `faulty` may have other answers."""

    def __init__(self, faulty: Callable[[Request], Answer | None] = lambda request: None) -> None:
        self._faulty = faulty
        self._sampled = 0

    def __call__(self, request: Request) -> Answer:
        return self._faulty(request) or self.answer(request)

    def answer(self, request: Request) -> Reply:
        """As a model would: sampled by seed and temperature, in the form that is asked for."""
        form = request.body.get("response_format")
        if form is not None:
            (word,) = form["json_schema"]["schema"]["properties"]["answer"]["enum"]
            return Reply(json.dumps({"answer": word}))
        self._sampled += 1
        temperature = request.body.get("temperature", 1.0)
        chance = random.Random(f"{request.seed} {temperature}")
        text = WORDS[self._sampled % 3 if request.n > 1 else chance.randrange(len(WORDS))]
        ids = [*ScriptedTokenizer().encode(text), ScriptedTokenizer().end_of_turn]
        return Reply(text, logprobs=[-_size(ids[: end + 1]) / (temperature or 1) for end in range(len(ids))])


def _size(ids: list[int]) -> float:
    return 0.5 + hashlib.sha256(str(ids).encode()).digest()[0] / 256


def asked(name: str) -> Callable[[Request], bool]:
    """Which of the questions a request is."""
    tests: dict[str, Callable[[Request], bool]] = {
        "whole": lambda r: r.kind == "chat" and not r.stream and r.seed is None and "response_format" not in r.body,
        "stream": lambda r: r.stream,
        "form": lambda r: "response_format" in r.body,
        "seed": lambda r: r.kind == "chat" and r.seed is not None,
        "text": lambda r: r.kind == "completions" and isinstance(r.body["prompt"], str),
        "ids": lambda r: r.kind == "completions" and isinstance(r.body["prompt"], list),
        "chat": lambda r: r.kind == "chat",
        "all": lambda r: True,
    }
    return tests[name]


def at(name: str, answer: Answer) -> Capable:
    """Everything as it should be but the answer to one of the questions."""
    return Capable(lambda request: answer if asked(name)(request) else None)


async def look(script: Any, *, path: Any = None, **settings: Any) -> tuple[Capabilities, ScriptedEndpoint]:
    async with ScriptedEndpoint(script, **{"fingerprint": "v1", "max_model_len": 4096, **settings}) as endpoint:
        if path is not None:
            endpoint._server.handler = path(endpoint._server.handler)
        found = await probe(Endpoint("scripted", endpoint.base_url, "none"))
        assert endpoint.script_errors == []
        assert set(found.problems) == {name for name in FIELDS if getattr(found, name) in (None, False)}
        assert all(found.problems.values())
        return found, endpoint


def missing(found: Capabilities) -> set[str]:
    return {name for name in FIELDS if getattr(found, name) is False}


def unknown(found: Capabilities) -> set[str]:
    return {name for name in FIELDS if getattr(found, name) is None}


async def test_what_is_there_is_seen_within_the_bounds_that_are_stated() -> None:
    found, endpoint = await look(Capable())
    assert (missing(found), unknown(found)) == (set(), set())
    assert (found.context_length, found.version) == (4096, "v1")
    assert found.tokens
    assert found.trainable
    assert len(endpoint.requests) == MOST_REQUESTS
    assert sum(request.n * request.max_tokens for request in endpoint.requests) == MOST_TOKENS
    assert found.usage.total_tokens == endpoint.ledger.total_tokens
    assert found.usage.unconfirmed == 0


@pytest.mark.parametrize(
    ("question", "fault", "lacks", "unsure"),
    [
        ("ids", FaultKind.NO_TOKEN_IDS, {"token_ids", "logprobs"}, {"scaled_logprobs"}),
        ("ids", FaultKind.NAN_LOGPROBS, {"logprobs"}, {"scaled_logprobs"}),
        ("ids", FaultKind.GARBLED, TOKEN_FIELDS, set()),
        ("ids", FaultKind.HTML, TOKEN_FIELDS, set()),
        ("ids", FaultKind.NULL_CONTENT, {"token_ids"}, {"scaled_logprobs"}),
        ("ids", FaultKind.NO_CHOICES, {"token_ids", "logprobs"}, {"scaled_logprobs"}),
        ("whole", FaultKind.NO_USAGE, {"usage_in_answers"}, set()),
        ("stream", FaultKind.NO_USAGE, {"usage_in_streams"}, set()),
        ("stream", FaultKind.HTML, {"streams", "usage_in_streams"}, set()),
        ("stream", FaultKind.GARBLED, {"streams", "usage_in_streams"}, set()),
        ("stream", FaultKind.TRUNCATED, {"streams", "usage_in_streams"}, set()),
        ("stream", FaultKind.NULL_CONTENT, {"streams"}, {"usage_in_streams"}),
        ("whole", FaultKind.NULL_CONTENT, {"chat"}, {"usage_in_answers"}),
        ("whole", FaultKind.HTML, {"chat"}, {"usage_in_answers", "version"}),
        ("text", FaultKind.NULL_CONTENT, {"completions"}, set()),
        ("form", FaultKind.NO_CHOICES, set(), {"structured_output"}),
    ],
)
async def test_status_200_proves_nothing(question: str, fault: FaultKind, lacks: set[str], unsure: set[str]) -> None:
    found, _ = await look(at(question, Fault(fault, reply="red fox")))
    assert (missing(found), unknown(found)) == (lacks, unsure)
    assert found.trainable is not bool((lacks | unsure) & TOKEN_FIELDS)


async def test_a_web_page_at_every_address_has_no_capability() -> None:
    found, endpoint = await look(Fault(FaultKind.HTML))
    assert missing(found) == FIELDS - {"usage_in_answers", "tokenize", "appends", "context_length", "version"}
    assert "not JSON" in found.problems["chat"]
    assert endpoint.ledger.total_tokens == found.usage.total_tokens == 0


async def test_settings_that_are_taken_and_ignored_are_seen() -> None:
    def ignoring(request: Request) -> Answer | None:
        if "response_format" in request.body:
            return "A red fox."
        if request.kind == "completions":  # the same log-probs at each temperature
            return Reply("red fox", logprobs=[-0.7] * 20)
        return WORDS[request.index % 8] if request.seed is not None else None  # and other samples of the same seed

    found, _ = await look(Capable(ignoring))
    assert missing(found) == {"structured_output", "seed", "scaled_logprobs"}
    assert "does not fit the schema" in found.problems["structured_output"]
    assert "processed_logprobs" in found.problems["scaled_logprobs"]
    assert found.trainable, "at temperature 1"


async def test_where_nothing_differs_nothing_is_claimed() -> None:
    def sure(request: Request) -> Answer | None:
        return None if "response_format" in request.body else Reply("red fox", logprobs=[-0.001] * 20)

    found, _ = await look(Capable(sure))
    assert (missing(found), unknown(found)) == (set(), {"seed", "scaled_logprobs"})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{ "answer":\n\n "blorptuag-7" }', True),
        ('{"answer":' + "\n" * 200, None),
        ('{"answer": "b' + "\n" * 200, True),
        ('```json\n{"answer": "blorptuag-7"}\n```', False),
        ('{"answer": "a red fox"}', False),
    ],
)
async def test_a_form_counts_as_enforced_where_there_was_no_other_way(text: str, value: bool | None) -> None:
    found, _ = await look(at("form", text))
    assert found.structured_output is value


async def test_what_an_endpoint_refuses_it_lacks_in_its_own_words() -> None:
    refusing = at("form", Fault.http(400, "response_format is unknown here"))
    found, _ = await look(refusing)
    assert missing(found) == {"structured_output"}
    assert found.problems["structured_output"] == "HTTP 400: response_format is unknown here"


async def test_one_sample_to_a_request_is_enough() -> None:
    found, endpoint = await look(Capable(lambda r: Fault.http(400, "n must be 1") if r.n > 1 else None))
    # One long sample at two temperatures need not have a token in common.
    assert missing(found) <= {"scaled_logprobs"}
    assert found.trainable
    assert [r.n for r in endpoint.requests if asked("ids")(r)] == [8, 1, 1]
    assert sum(r.n * r.max_tokens for r in endpoint.requests if r.n == 1) <= MOST_TOKENS


def _without(*paths: str) -> Callable[[Any], Any]:
    """A server that lacks these paths."""

    def wrapped(handler: Any) -> Any:
        async def handle(exchange: Any) -> None:
            if exchange.path in paths:
                exchange.send_json(404, {"detail": "Not Found"})
            else:
                await handler(exchange)

        return handle

    return wrapped


async def test_an_endpoint_for_chat_alone() -> None:
    found, _ = await look(Capable(), path=_without("/v1/completions", "/tokenize", "/v1/models"))
    assert missing(found) == {"completions", "tokenize", "appends", "context_length", *TOKEN_FIELDS}
    assert found.chat
    assert not found.tokens


async def test_training_needs_no_tokenize() -> None:
    found, endpoint = await look(Capable(), path=_without("/tokenize"))
    assert missing(found) == {"tokenize", "appends"}
    assert (found.trainable, found.tokens) == (True, False)
    assert all(len(r.prompt_token_ids) == 8 for r in endpoint.requests if asked("ids")(r))


class _Forgetful(ScriptedTokenizer):
    """A template that drops the thinking of earlier turns."""

    def render(self, messages: Any, **settings: Any) -> list[int]:
        shown = [
            {**m, "content": m["content"].rpartition("</think>")[2].strip()} if m is not messages[-1] else m
            for m in messages
        ]
        return super().render(shown, **settings)


async def test_a_template_that_rewrites_earlier_turns_is_seen() -> None:
    found, _ = await look(Capable(), tokenizer=_Forgetful())
    assert missing(found) == {"appends"}
    assert "changes earlier turns" in found.problems["appends"]
    assert (found.trainable, found.tokens) == (True, False)


def _changed(path: str, change: Callable[[bytes], bytes]) -> Callable[[Any], Any]:
    """A server whose answers at one path are changed on their way out."""

    def wrapped(handler: Any) -> Any:
        async def handle(exchange: Any) -> None:
            send = exchange.send
            if exchange.path == path:
                exchange.send = lambda status, body, **settings: send(status, change(body), **settings)
            await handler(exchange)

        return handle

    return wrapped


@pytest.mark.parametrize(
    ("path", "change", "field", "says"),
    [
        ("/tokenize", lambda b: b.replace(b'"tokens":[', b'"tokens":[1,'), "tokenize", "was billed as"),
        ("/tokenize", lambda b: b.replace(b'"tokens":[', b'"tokens":["x",'), "tokenize", "no token ids"),
        ("/v1/completions", lambda b: b.replace(b'"prompt_token_ids":[', b'"prompt_token_ids":[1,'), "token_prompts",
         "another prompt"),
        ("/v1/completions", lambda b: b.replace(b'"token_ids":[', b'"token_ids":[1,'), "token_ids", "billed"),
        ("/v1/completions", lambda b: b.replace(b'"token_logprobs":[', b'"token_logprobs":[-1.0,'), "logprobs",
         "log-probs came for"),
        ("/v1/completions", lambda b: b.replace(b'"token_logprobs":[-', b'"token_logprobs":['), "logprobs", "above 0"),
        ("/v1/chat/completions", lambda b: b.replace(b'"prompt_tokens":', b'"prompt_tokens":0,"x":'),
         "usage_in_answers", "cannot be"),
    ],
)  # fmt: skip
async def test_numbers_that_do_not_fit_each_other_are_not_believed(
    path: str, change: Callable[[bytes], bytes], field: str, says: str
) -> None:
    found, _ = await look(Capable(), path=_changed(path, change))
    assert getattr(found, field) is False
    assert says in found.problems[field]


async def test_a_stream_that_counts_its_prompt_otherwise_is_not_believed() -> None:
    def wrapped(handler: Any) -> Any:
        async def handle(exchange: Any) -> None:
            send = exchange.send_event
            exchange.send_event = lambda text: send(text.replace('"prompt_tokens":', '"prompt_tokens":1'))
            await handler(exchange)

        return handle

    found, _ = await look(Capable(), path=wrapped)
    assert missing(found) == {"usage_in_streams"}


async def test_an_answer_in_one_piece_is_no_stream() -> None:
    def wrapped(handler: Any) -> Any:
        async def handle(exchange: Any) -> None:
            exchange.body = exchange.body.replace(b'"stream":true', b'"stream":false')
            await handler(exchange)

        return handle

    found, _ = await look(Capable(), path=wrapped)
    assert missing(found) == {"streams"}


async def test_what_fails_in_passing_is_unknown_and_looked_at_again() -> None:
    trouble = [True]

    def script(request: Request) -> Answer | None:
        return Fault.http(500, "out of memory") if trouble and asked("ids")(request) else None

    async with ScriptedEndpoint(Capable(script), fingerprint="v1", max_model_len=4096) as endpoint:
        there = Endpoint("scripted", endpoint.base_url, "none")
        found = await probe(there)
        assert unknown(found) == TOKEN_FIELDS
        assert "out of memory" in found.problems["logprobs"]
        trouble.clear()
        assert (await probe(there)).trainable


async def test_it_is_found_out_once_for_all_who_ask() -> None:
    async with ScriptedEndpoint(Capable()) as endpoint:
        there = Endpoint("scripted", endpoint.base_url, "none")
        got: list[Capabilities] = []

        async def ask() -> None:
            got.append(await probe(there))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        got.append(await probe(there))
        assert all(found is got[0] for found in got)
        assert len(endpoint.requests) == MOST_REQUESTS
        assert await probe(there, fresh=True) is not got[0]
        assert len(endpoint.requests) == 2 * MOST_REQUESTS


async def test_whoever_waits_goes_on_where_the_one_that_asked_is_cancelled() -> None:
    arrived, leave = anyio.Event(), anyio.CancelScope()
    async with ScriptedEndpoint(at("all", Fault(FaultKind.HANG))) as endpoint:
        there = Endpoint("scripted", endpoint.base_url, "none")
        got: list[Capabilities] = []

        async def first() -> None:
            with leave:
                await probe(there)
            arrived.set()

        async def second() -> None:
            got.append(await probe(there))

        async with anyio.create_task_group() as group:
            group.start_soon(first)
            await until(lambda: endpoint.requests)
            group.start_soon(second)
            await anyio.wait_all_tasks_blocked()
            endpoint.script = Capable()
            leave.cancel()
            await arrived.wait()
        assert got[0].chat


async def test_an_endpoint_that_is_away_is_an_error_and_not_remembered() -> None:
    async with ScriptedEndpoint(Capable()) as endpoint:
        there = Endpoint("scripted", endpoint.base_url, "none")
        endpoint.refuse_connections(100)
        with pytest.raises(EndpointUnavailable):
            await probe(there)
        endpoint.refuse_connections(0)
        assert (await probe(there)).chat


async def test_a_key_that_is_refused_and_a_model_that_is_not_there() -> None:
    async with ScriptedEndpoint(Capable(), api_key="sk-right") as endpoint:
        with pytest.raises(AuthenticationFailed) as caught:
            await probe(Endpoint("scripted", endpoint.base_url, "sk-wrong-0000"))
        assert "sk-wrong" not in str(caught.value)
        with pytest.raises(ModelNotFound, match="on offer: scripted"):
            await probe(Endpoint("other", endpoint.base_url, "sk-right"))
        assert (await probe(Endpoint("scripted", endpoint.base_url, "sk-right"))).chat


def test_scaling_is_told_by_what_both_sampled() -> None:
    def samples(*pairs: tuple[list[int], list[float]]) -> Samples:
        return Samples(prompt=[1], ids=[ids for ids, _ in pairs], logprobs=[list(values) for _, values in pairs],
                       usage=Usage())  # fmt: skip

    cold = samples(([5, 6], [-0.2, -0.4]), ([7], [-2.0]))
    assert cold.scaling(samples(([5, 9], [-0.9, -3.0]), ([7], [-1.2])))[0] is True
    assert cold.scaling(samples(([5, 6], [-0.21, -0.38]), ([7], [-2.02])))[0] is False
    assert cold.scaling(samples(([8, 6], [-0.2, -0.4])))[0] is None, "6 after 8 is another token than 6 after 5"
