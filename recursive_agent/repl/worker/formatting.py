"""`str.format` whose fields are looked up like any other attribute of the agent's code."""

from __future__ import annotations

from _string import formatter_field_name_split as split_field  # type: ignore[import-not-found]
from collections.abc import Callable, Mapping
from string import Formatter
from typing import Any

from .reads import guarded_getattr, substitute


class _SafeFormatter(Formatter):
    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = split_field(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = guarded_getattr(value, str(key)) if is_attribute else value[key]
        return value, first


def _text(template: Any) -> str:
    if not isinstance(template, str):
        raise TypeError("format() is a method of strings")
    return str.__str__(template)


def format_text(template: str, /, *args: Any, **kwargs: Any) -> str:
    """`str.format`."""
    return _SafeFormatter().vformat(_text(template), args, kwargs)


def format_mapping(template: str, mapping: Mapping[str, Any], /) -> str:
    """`str.format_map`."""
    return _SafeFormatter().vformat(_text(template), (), mapping)


class _BoundFormat:
    """The bound method `format` or `format_map` of a string."""

    __slots__ = ("_method", "_template")

    def __init__(self, method: Callable[..., str], template: str) -> None:
        self._method = method
        self._template = template

    def __call__(self, /, *args: Any, **kwargs: Any) -> str:
        return self._method(self._template, *args, **kwargs)


substitute(str, "format", lambda value: _BoundFormat(format_text, value), lambda cls: format_text)
substitute(str, "format_map", lambda value: _BoundFormat(format_mapping, value), lambda cls: format_mapping)
