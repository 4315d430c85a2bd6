import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recursive_agent.errors import TraceError
from recursive_agent.trace.codec import Decoder, Encoder
from recursive_agent.trace.redact import Redactor
from recursive_agent.trace.schema import Event, HostCalled
from recursive_agent.trace.values import json_pieces, pack, to_json, unpack

from .events import events, model_called, node_ended, node_started, run_started, texts, values


def _same(value: Any) -> Any:
    return value


def _through_json(value: Any) -> Any:
    return unpack(json.loads(to_json(pack(value, _same, _same))), {})


def _round_trip(*given: Event) -> tuple[list[Event], bytes]:
    encoder, decoder = Encoder(), Decoder()
    data = b"".join(encoder.encode(event) for event in given)
    decoded = [decoder.decode(line) for line in data.splitlines()]
    return [event for event in decoded if event is not None], data


@given(values)
def test_any_plain_value_comes_back_as_it_was(value: Any) -> None:
    back = _through_json(value)
    assert back == value
    assert type(back) is type(value)


@given(values)
def test_json_in_pieces_is_the_same_json(value: Any) -> None:
    packed = pack([value, [1, "x", None] * 40, {"a": value}], _same, _same)
    assert b"".join(json_pieces(packed)) == to_json(packed)


@settings(max_examples=300)
@given(st.lists(events, max_size=4))
def test_events_come_back_as_they_were_each_on_one_line(given: list[Event]) -> None:
    back, data = _round_trip(*given)
    assert back == given
    assert data.count(b"\n") == len(data.splitlines())
    assert all(json.loads(line) for line in data.splitlines())


def test_types_survive_where_equality_would_hide_the_difference() -> None:
    value = {"a": [1, 1.0, True], 1: (1,), None: {1}, "f": frozenset({1})}
    assert repr(_through_json(value)) == repr(value)


def test_floats_that_json_lacks_survive() -> None:
    nan, inf, minus = _through_json([math.nan, math.inf, -math.inf])
    assert math.isnan(nan)
    assert (inf, minus) == (math.inf, -math.inf)


def test_integers_beyond_the_conversion_limit_of_python_survive() -> None:
    assert _through_json(10**5000) == 10**5000
    assert _through_json(-(2**64)) == -(2**64)


@pytest.mark.parametrize(
    "value",
    [
        {"$blob": "0" * 32},
        {"$bytes": "not base64"},
        {"$int": 3},
        {"$dict": [[1, 2]]},
        {"$ref": "#/$defs/a"},
        {"$blob": {"$blob": {"$tuple": []}}},
    ],
)
def test_user_data_that_looks_like_a_marker_is_data(value: Any) -> None:
    assert _round_trip(node_ended(result=value))[0] == [node_ended(result=value)]


def test_what_cannot_be_kept_degrades_as_stated() -> None:
    class Odd:
        def __repr__(self) -> str:
            return "<odd>"

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    class Name(str):
        pass

    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    assert _through_json([Odd(), Name("n")]) == ["<odd>", "n"]
    assert "repr raised RuntimeError" in _through_json(Broken())
    assert _through_json("\ud83d\ude00") == "😀"
    assert str(_through_json(deep)).count("[") == 100


def test_nested_dicts_with_odd_keys_take_linear_time() -> None:
    value: Any = 0
    for _ in range(60):  # doubling at each level would never end
        value = {"a": value, 5: 1}
    assert _through_json(value) == value


def test_a_large_value_stands_once() -> None:
    document = "ünï" * 5000
    given = [
        node_started("0", context={"doc": document}),
        node_started("0.0", context={"doc": document, "part": 1}),
        HostCalled(time=0.0, node="0", step=1, call=1, started=0.0, name="f", args=(document,), result=[document]),
        node_ended("0.0", result=document),
    ]
    back, data = _round_trip(*given)
    assert back == given
    assert data.decode().count("ünïünï" * 10) == document.count("ünïünï" * 10)


def test_a_context_of_many_small_values_stands_once_and_is_not_shared() -> None:
    context = [{"n": n} for n in range(2000)]
    given = [node_started("0", context=context), node_started("0.0", context=context)]
    back, data = _round_trip(*given)
    assert back == given
    assert data.count(b'"n":1999') == 1
    first, second = back
    assert first.context[0] is not second.context[0]  # type: ignore[attr-defined]


def test_a_blob_is_referred_to_only_after_it_was_written() -> None:
    with pytest.raises(TraceError, match="before it was written"):
        Decoder().decode(Encoder().encode(node_started(context="x" * 9000)).splitlines()[1])


def test_token_arrays_are_compact_and_exact() -> None:
    ids = list(range(0, 150_000, 15))
    logprobs = [-1 / 3] * len(ids)
    (back,), data = _round_trip(model_called(token_ids=ids, logprobs=logprobs))
    assert back.token_ids == ids  # type: ignore[attr-defined]
    assert back.logprobs == pytest.approx(logprobs, rel=1e-7)  # type: ignore[attr-defined]
    assert len(data) < len(ids) * 8 * 4 / 3 + 500


def test_a_conversation_in_tokens_costs_its_length_not_its_square() -> None:
    prompt: list[int] = []
    calls = []
    for step in range(1, 51):
        prompt = [*prompt, *range(step, step + 100)]
        calls.append(model_called(step=step, prompt_token_ids=list(prompt), token_ids=[7] * 20))
        prompt += [7] * 20
    calls.append(model_called(step=51, prompt_token_ids=[1, 2, 3], token_ids=[]))  # not appended to: still exact
    back, data = _round_trip(*calls)
    assert back == calls
    assert len(data) < 51 * 120 * 4 * 4 / 3 + 51 * 400


def test_absent_and_empty_arrays_are_told_apart() -> None:
    given = [model_called(token_ids=None, logprobs=None), model_called(token_ids=[], logprobs=[], prompt_token_ids=[])]
    assert _round_trip(*given)[0] == given


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{", "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
        (b"\xff\xfe\xfd", "not a line of JSON"),
        (b"[]", "not an event"),
        (b'{"kind":"dance"}', "unknown to this version"),
        (b'{"kind":"run_ended","time":1}', "without status"),
        (b'{"kind":"run_ended","time":1,"status":"asleep","usage":{}}', "cannot be read"),
        (b'{"kind":"run_ended","time":"noon","status":"finished","usage":{}}', "float is expected"),
        (b'{"kind":"run_ended","time":1,"status":"finished","usage":{"calls":1,"euros":2}}', "cannot be read"),
        (b'{"kind":"run_ended","time":1,"status":"finished","usage":{},"mood":1}', "unknown fields"),
        (b'{"kind":"blob","value":1}', "blob without hash"),
        (b'{"kind":"blob","hash":"a","value":{"$blob":"a"}}', "before it was written"),
        (b'{"kind":"node_ended","time":1,"node":"0","status":"finished","result":{"$bytes":"%"}}', r"kind \$bytes"),
        (b'{"kind":"node_ended","time":1,"node":"0","status":"finished","result":{"$set":[[]]}}', r"kind \$set"),
        (b'{"kind":"run_ended","schema_version":99,"time":1}', "update rao"),
        (b'{"kind":"run_ended","schema_version":0,"time":1}', "version that wrote it"),
        (b'{"kind":"run_ended","schema_version":"1","time":1}', "instead of a number"),
    ],
)
def test_a_malformed_line_is_refused_with_a_reason(line: bytes, complaint: str) -> None:
    with pytest.raises(TraceError, match=complaint):
        Decoder().decode(line)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_a_trace_error(garbage: bytes) -> None:
    with pytest.raises(TraceError):
        Decoder().decode(b'{"kind":"model_called",' + garbage)


# --- secrets ---

SECRET = 'sk-live/42"ü\\+xyz'


def _written(*given: Event) -> str:
    encoder = Encoder(Redactor([SECRET]))
    return b"".join(encoder.encode(event) for event in given).decode()


@given(values, texts, texts)
def test_a_secret_never_reaches_the_file(value: Any, before: str, after: str) -> None:
    hidden = {"v": value, before + SECRET + after: [before + SECRET, (SECRET + after).encode("utf-8", "surrogatepass")]}
    written = _written(node_started(goal=SECRET, context=hidden), node_ended(result=hidden, reason=json.dumps(SECRET)))
    for form in (SECRET, json.dumps(SECRET)[1:-1], json.dumps(json.dumps(SECRET)[1:-1])[1:-1]):
        assert form not in written
    assert "[redacted]" in written


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
def test_no_more_than_the_rim_of_a_secret_remains_in_base64(before: str) -> None:
    plain = f"{before}{SECRET}".encode()
    encoded = base64.b64encode(plain + b":tail").decode()
    goal = json.loads(_written(node_started(goal=f"Basic {encoded}")))["goal"]
    head, _, tail = goal.removeprefix("Basic ").partition("[redacted]")
    assert encoded.startswith(head)
    assert encoded.endswith(tail)
    assert len(head) <= -(-len(before) * 4 // 3)  # of the secret itself at most the bits shared with what stands before
    assert len(tail) <= len(base64.b64encode(b"z:tail")) + 2


def test_a_secret_in_a_large_value_and_in_the_settings_of_the_run_is_replaced() -> None:
    written = _written(
        run_started(settings={"url": f"http://u:{SECRET}@h"}), node_started(context=f"{'x' * 9000}{SECRET}")
    )
    assert SECRET not in json.loads(written.splitlines()[0])["settings"]["url"]
    assert "xyz" not in written


def test_placeholders_for_keys_do_not_tear_holes() -> None:
    encoder = Encoder(Redactor(["none", "EMPTY", "", None]))
    assert "none EMPTY" in encoder.encode(node_started(goal="none EMPTY")).decode()


def test_keys_made_equal_by_redaction_stay_readable() -> None:
    written = _written(node_ended(result={SECRET: 1, "[redacted]": 2, "other": 3}))
    result = Decoder().decode(written.encode().splitlines()[0])
    assert result == node_ended(result={"[redacted]": 2, "other": 3})
