"""Syntax trees are built by one thread at a time, wherever rao builds one."""

from __future__ import annotations

import ast
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from recursive_agent.repl.worker import parsing

ROOT = Path(__file__).parents[2]


def test_other_threads_wait_while_a_tree_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[bool] = []

    def enter() -> None:
        entered.append(parsing._turn.acquire(blocking=False))
        if entered[-1]:
            parsing._turn.release()

    def other() -> None:
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join()

    def watched(*arguments: Any, **named: Any) -> Any:
        other()
        return compile(*arguments, **named)

    monkeypatch.setattr(parsing, "compile", watched, raising=False)
    assert ast.unparse(parsing.parse("x  =  1")) == "x = 1"
    with pytest.raises(SyntaxError):
        parsing.parse("x = = 1")
    assert entered == [False, False]
    other()
    assert entered[-1]


def test_a_parse_within_a_parse_does_not_wait_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def nested(source: str, *arguments: Any, **named: Any) -> Any:
        if source == "outer":
            parsing.parse("inner")
        return compile(source, *arguments, **named)

    monkeypatch.setattr(parsing, "compile", nested, raising=False)
    assert ast.unparse(parsing.parse("outer")) == "outer"


def test_no_code_that_runs_beside_agents_builds_a_tree_in_another_way() -> None:
    files = [*(ROOT / "recursive_agent").rglob("*.py"), *(ROOT / "rao_rl").rglob("*.py")]
    own = {file.relative_to(ROOT).as_posix() for file in files if re.search(r"ast\.parse\(|ONLY_AST", file.read_text())}
    assert own == {"recursive_agent/repl/worker/parsing.py"}
