"""Arguments of environments as texts: what a value is, what is refused, and that records give back what was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rao_rl.envs.arguments import Plain, as_text, as_texts, from_label, label, plain_value, read_arguments
from rao_rl.envs.registry import arguments_of
from recursive_agent import ConfigurationError

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


def factory(
    *,
    data: str | None = None,
    folder: Path = Path(),
    scoring: Literal["official", "strict"] = "official",
    tasks: int = 5,
    share: float = 0.5,
    shuffled: bool = False,
    anything: Any = None,
    untyped=3,  # type: ignore[no-untyped-def]
) -> None:
    """An environment's parameters of every kind."""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("5", 5), ("-3", -3), ("0.5", 0.5), ("1e3", 1000.0), ("true", True), ("False", False)),
        *(("strict", "strict"), ("/data/oolong", "/data/oolong"), ('"5"', "5"), ('"true"', "true"), ("", "")),
        *(("007", "007"), ("[1]", "[1]"), ("null", "null"), ("NaN", "NaN"), ("1e999", "1e999"), ("a=b", "a=b")),
    ],
)
def test_a_value_is_a_number_a_truth_or_a_text(text: str, value: Plain) -> None:
    assert (plain_value(text), type(plain_value(text))) == (value, type(value))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), PLAIN, max_size=4))
def test_a_label_gives_back_name_and_arguments(arguments: dict[str, Plain]) -> None:
    text = label("oolong", arguments)
    assert "/" not in text
    name, found = from_label(text)
    assert (name, found) == ("oolong", arguments)
    assert {key: type(value) for key, value in found.items()} == {key: type(value) for key, value in arguments.items()}


@given(PLAIN, PLAIN)
def test_texts_are_equal_only_of_equal_values(first: Plain, second: Plain) -> None:
    same = type(first) is type(second) and repr(first) == repr(second)
    assert (as_text(first) == as_text(second)) is same


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("data=/oolong", "/oolong"), ("data=2024", "2024"), ("data=true", "true"), ("data=none", None)),
        *(("folder=here", "here"), ("scoring=strict", "strict"), ("tasks=7", 7), ("tasks=7.0", 7), ("share=1", 1)),
        *(("shuffled=yes", True), ("shuffled=1", True), ("anything=7", 7), ("untyped=seven", "seven")),
    ],
)
def test_a_value_is_read_as_the_parameter_is_annotated(text: str, value: Plain) -> None:
    (found,) = read_arguments("env", factory, [text], option="--env-set").values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        (["data"], "--env-set takes NAME=VALUE, not 'data'"),
        (["=x"], "--env-set takes NAME=VALUE, not '=x'"),
        (["dat=x"], "--env-set: env has no argument 'dat'; did you mean data?"),
        (["colour=x"], "it takes data, folder, scoring, tasks, share, shuffled, anything, untyped"),
        (["tasks=many"], "--env-set tasks=many: input should be a valid integer"),
        (["tasks=true"], "--env-set tasks=true: input should be a valid integer"),
        (["shuffled=perhaps"], "--env-set shuffled=perhaps: input should be a valid boolean"),
        (["scoring=Lax"], "--env-set scoring=Lax: input should be 'official' or 'strict'"),
        (["tasks=1", "tasks=2"], "gives tasks twice"),
    ],
)
def test_what_the_environment_does_not_take_is_refused(texts: list[str], complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_arguments("env", factory, texts, option="--env-set")
    assert complaint in str(caught.value)


def test_any_name_goes_where_the_environment_takes_any() -> None:
    def open_ended(**more: object) -> None: ...

    assert read_arguments("env", open_ended, ["x=1", "y=z"], option="-") == {"x": 1, "y": "z"}
    assert as_texts({"y": "z", "x": 1}) == ["x=1", "y=z"]


def test_a_built_in_environment_is_asked_by_its_name() -> None:
    assert arguments_of("textcraft", ["names=fixed"]) == {"names": "fixed"}
    with pytest.raises(ConfigurationError, match="input should be 'words' or 'fixed'"):
        arguments_of("textcraft", ["names=latin"])
