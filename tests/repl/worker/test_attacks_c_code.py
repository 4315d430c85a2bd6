"""What C code and the library's shared tables ask of an agent's class gets no answer of the agent's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recursive_agent.repl import ProcessSandbox

from ..conftest import Attack, attacks_on
from .escapes_c_code import C_CODE
from .escapes_raw import CRASHES, RAW
from .escapes_tables import TABLES
from .ordinary_use import ORDINARY


@pytest.fixture(scope="module")
def policed() -> Iterator[Attack]:
    with attacks_on(ProcessSandbox) as attack:
        yield attack


@pytest.fixture(scope="module")
def unpoliced() -> Iterator[Attack]:
    with attacks_on(lambda: ProcessSandbox(policy=False)) as attack:
        yield attack


@pytest.mark.parametrize("name", C_CODE)
def test_an_agents_class_answers_no_c_code_and_changes_no_table(name: str, policed: Attack) -> None:
    result = policed(C_CODE[name])
    assert result.status in ("ok", "error"), result
    assert "ESCAPED" not in result.output


@pytest.mark.parametrize("name", RAW)
def test_nothing_reads_an_agents_object_past_the_guard(name: str, policed: Attack) -> None:
    result = policed(RAW[name])
    assert result.status in ("ok", "error"), result
    assert "ESCAPED" not in result.output
    assert "Did you mean" not in result.output


@pytest.mark.parametrize("name", CRASHES)
def test_no_c_code_is_left_without_what_it_relies_on(name: str, policed: Attack) -> None:
    result = policed(CRASHES[name])
    assert result.status in ("ok", "error"), result


@pytest.mark.parametrize("name", TABLES)
def test_no_table_or_cache_of_the_library_asks_an_agents_object(name: str, policed: Attack) -> None:
    result = policed(TABLES[name])
    assert result.status == "ok", result
    assert "ESCAPED" not in result.output


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_code_does_in_the_language_what_it_does_in_plain_python(
    name: str, policed: Attack, unpoliced: Attack
) -> None:
    result, plain = policed(ORDINARY[name]), unpoliced(ORDINARY[name])
    assert result.status == plain.status == "ok", (result, plain)
    assert result.output == plain.output
    assert result.output
