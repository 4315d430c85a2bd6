"""What C code and the library's shared tables ask of an agent's class gets no answer of the agent's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recursive_agent.repl import ProcessSandbox

from .conftest import Attack, attacks_on
from .escapes_c_code import C_CODE


@pytest.fixture(scope="module")
def policed() -> Iterator[Attack]:
    with attacks_on(ProcessSandbox) as attack:
        yield attack


@pytest.mark.parametrize("name", C_CODE)
def test_an_agents_class_answers_no_c_code_and_changes_no_table(name: str, policed: Attack) -> None:
    result = policed(C_CODE[name])
    assert result.status in ("ok", "error"), result
    assert "ESCAPED" not in result.output
