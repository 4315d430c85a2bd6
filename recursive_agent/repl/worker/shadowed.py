"""Functions that a cell has hidden behind a value of the same name, such as `distance = await distance(…)`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from .values import DATA, last_of_a_cell, nodes_in

_ARGS: Any = BaseException.__dict__["args"]


def bring_back(error: BaseException, prefix: str, variables: dict[str, Any], functions: Mapping[str, Any]) -> list[str]:
    """Where an error says that a value cannot be called, and the value has the name of one of `functions`: take the value
    away, so that the function can be called again. A sentence on each. Runs none of the agent's code.

    A value that hides a function does no harm until the function is called, so it is left alone until then.
    """
    if type(error) is not TypeError:
        return []
    message = _ARGS.__get__(error)
    last = last_of_a_cell(error, prefix)
    if not message or not str(message[0]).endswith("is not callable") or last is None:
        return []
    calls = nodes_in(last.tb_frame.f_code.co_filename, last.tb_lineno, ast.Call)
    sentences = []
    for name in dict.fromkeys(call.func.id for call in calls if isinstance(call.func, ast.Name)):
        if name in functions and callable(functions[name]) and type(variables.get(name, functions[name])) in DATA:
            del variables[name]
            sentences.append(
                f"`{name}` is a function, but your code gave that name to a value. It is the function again: give the value "
                "another name."
            )
    return sentences
