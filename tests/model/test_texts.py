"""Stop strings in the text of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.model.texts import Stop, find_stop


@pytest.mark.parametrize(
    ("text", "stops", "searched", "found"),
    [
        ("a stop b", ("stop",), 0, Stop(2, 6, "stop")),
        ("a stop b", ("never",), 0, None),
        ("a stop b", (), 0, None),
        ("", ("x",), 0, None),
        ("abcd", ("abcd", "bc"), 0, Stop(1, 3, "bc")),  # begins later, and is complete first
        ("abc", ("bc", "abc"), 0, Stop(1, 3, "bc")),  # of two that end together, the one listed first
        ("abc", ("abc", "bc"), 0, Stop(0, 3, "abc")),
        ("xx", ("x",), 1, Stop(1, 2, "x")),
        ("anything", ("",), 0, None),
    ],
)
def test_the_stop_string_that_is_complete_first_counts(
    text: str, stops: tuple[str, ...], searched: int, found: Stop | None
) -> None:
    assert find_stop(text, stops, searched) == found


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=3), max_size=4))
def test_no_shorter_beginning_of_the_text_holds_a_stop_string(text: str, stops: list[str]) -> None:
    found = find_stop(text, stops)
    if found is None:
        assert not any(stop in text for stop in stops)
    else:
        assert text[found.start : found.end] == found.text
        assert not any(stop in text[: found.end - 1] for stop in stops)
