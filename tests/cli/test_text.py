import json
from collections.abc import Iterator
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rao_cli.text import as_json, clean, one_line, seconds
from rao_cli.types import parse_type

from recursive_agent.errors import ConfigurationError


@given(st.text(st.characters(exclude_categories=())))
def test_nothing_an_agent_writes_controls_the_terminal(text: str) -> None:
    shown = clean(text)
    assert not any(ord(c) < 32 and c not in "\t\n" for c in shown)
    assert not any(0x7F <= ord(c) <= 0x9F for c in shown)
    shown.encode()


def test_escape_sequences_stay_visible() -> None:
    assert clean("a\x1b[31mb\u202e") == "a\\x1b[31mb\\x202e"


@given(st.text(), st.integers(1, 50))
def test_one_line_is_one_line_of_at_most_its_width(text: str, width: int) -> None:
    shown = one_line(text, width)
    assert len(shown) <= width
    assert shown.splitlines() in ([shown], [])


@given(st.text(st.characters(exclude_categories=())))
def test_json_on_a_terminal_controls_nothing_and_says_the_same(text: str) -> None:
    shown = as_json({text: [text]})
    assert clean(shown) == shown
    assert json.loads(shown) == {text: [text]}


def test_a_line_of_a_large_value_costs_no_more_than_one_of_a_small_value() -> None:
    class Counted(list[Any]):
        seen = 0

        def __iter__(self) -> Iterator[Any]:
            for item in super().__iter__():
                Counted.seen += 1
                yield item

    value = Counted(["x" * 1000] * 100_000)
    assert one_line(value, 50) == ('["' + "x" * 47 + "…")
    assert one_line({"key": value, "other": value}, 50) == '{"key": ["' + "x" * 39 + "…"
    assert one_line([[1, 2], {"a": b"b"}, None], 50) == '[[1, 2], {"a": "b"}, null]'
    assert Counted.seen < 200


def test_json_output_always_is_json() -> None:
    class Odd:
        def __str__(self) -> str:
            return "odd"

    value = {1: {(2, 3): b"x\xff"}, "s": {4}, "o": Odd(), "ü": 10**400}
    assert json.loads(as_json(value)) == {"1": {"(2, 3)": "x\\xff"}, "s": [4], "o": "odd", "ü": 10**400}
    assert "ü" in as_json(value)
    deep: list[Any] = []
    deep.append(deep)
    assert json.loads(as_json(deep)) == "[[...]]"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (99.6, "1:39 min"), (185, "3:05 min"), (7200, "2:00 h")],
)
def test_durations_are_readable(value: float, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("int", int),
        ("list[str]", list[str]),
        (" dict[str, list[int]] ", dict[str, list[int]]),
        ("int | None", Union[int, None]),  # noqa: UP007
        ("Optional[str]", Optional[str]),  # noqa: UP045
        ("tuple[int, ...]", tuple[int, ...]),
        ("tuple[int, str]", tuple[int, str]),
        ("Literal['a', 2]", Literal["a", 2]),
        ('{"type": "integer"}', {"type": "integer"}),
    ],
)
def test_types_are_read_as_people_write_them(text: str, kind: object) -> None:
    assert parse_type(text) == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "foo",
        "list[",
        "__import__('os')",
        "int()",
        "list[1]",
        "open",
        "{not json",
        "int.real",
        "no.json",
        "[int]",
        "x" * 9000,
    ],
)
def test_what_is_no_type_is_refused_and_never_run(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"returns|schema"):
        parse_type(text)
