"""When two values are the same: equal and of the same types all the way down, so that True is not 1."""

from __future__ import annotations

from typing import Any

FORM = """
def form_of(value):
    if value is None or type(value) in (bool, int, float, str):
        return [type(value).__name__, value]
    if type(value) is list:
        return ["list", [form_of(item) for item in value]]
    if type(value) is dict:
        return ["dict", sorted([[form_of(key), form_of(item)] for key, item in value.items()], key=repr)]
    return ["other", type(value).__name__]
"""
"""The code of `form_of`: runs in the sandbox too, where it says of a value what the host compares."""

_scope: dict[str, Any] = {}
exec(FORM, _scope)


def form_of(value: Any) -> list[Any]:
    """A value with its types, as plain data; what is neither a number, text, list nor dict is only named."""
    form: list[Any] = _scope["form_of"](value)
    return form


def value_of(form: Any) -> Any:
    """The value of a form; a text that names the type where it is none of plain data."""
    kind, held = form
    if kind == "list":
        return [value_of(item) for item in held]
    if kind == "dict":
        return {value_of(key): value_of(item) for key, item in held}
    return f"<{held}>" if kind == "other" else held
