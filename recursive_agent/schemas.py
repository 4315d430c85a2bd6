"""JSON schemas that agents may write: checked on the host, so without reach beyond themselves and in bounded time.

The stock validator follows references to any URL and runs patterns on an engine that can take for ever.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jsonschema
from pydantic_core import SchemaError, SchemaValidator, core_schema
from referencing import Registry
from referencing.exceptions import Unresolvable

SECONDS = 2.0
"""Time that checking one value may take."""
_deadline: ContextVar[float] = ContextVar("deadline")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


class Schema:
    """A JSON schema. Raises ValueError with the reason where it is none that can be used."""

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            kind = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
            kind.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(error.message) from None
        except Exception as error:  # what stands where text should stand, or too deep: the library's own errors
            raise ValueError(f"it cannot be read ({type(error).__name__}: {error})") from None
        _refuse(schema)
        # With a registry of its own the library fetches nothing.
        self._validator = _bounded(kind)(schema, registry=Registry())

    def check(self, value: Any) -> None:
        """Raises ValueError with the most telling problem of `value`."""
        _deadline.set(time.monotonic() + SECONDS)
        try:
            worst = jsonschema.exceptions.best_match(self._validator.iter_errors(value))
        except RecursionError:
            raise ValueError("the value is nested too deeply for its schema") from None
        except Unresolvable as error:
            raise ValueError(f"the schema has a $ref to something that is not in it: {error}") from None
        except (TypeError, ArithmeticError) as error:  # keys that are no text, infinity: the library knows only JSON
            raise ValueError(f"the value is not like JSON ({error})") from None
        if worst is not None:
            where = "".join(f"[{part!r}]" for part in worst.absolute_path)
            raise ValueError(f"value{where}: {worst.message}" if where else worst.message)


def _refuse(schema: dict[str, Any]) -> None:
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, list):
            waiting.extend(part)
        elif isinstance(part, Mapping):
            for name in _REFERENCES:
                if isinstance(reference := part.get(name), str) and not reference.startswith("#"):
                    raise ValueError(f"{name} may only refer to the schema itself (#/…), not to {reference!r}")
            if "patternProperties" in part:
                raise ValueError("patternProperties is not supported")
            if isinstance(pattern := part.get("pattern"), str):
                _pattern(pattern)
            waiting.extend(part.values())


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> SchemaValidator:
    try:  # an engine whose time is linear in the text
        return SchemaValidator(core_schema.str_schema(pattern=pattern))
    except SchemaError:
        raise ValueError(
            f"the pattern {pattern!r} is not supported (look-around and back-references are not)"
        ) from None


def _spelled(item: Any) -> str:
    try:
        return json.dumps(item, sort_keys=True, default=repr)
    except TypeError:  # keys that are no text
        return repr(item)


@lru_cache(maxsize=16)
def _bounded(kind: Any) -> Any:
    """A validator class of the library with the keywords replaced that could take for ever."""

    def matches(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not _pattern(pattern).isinstance_python(value):
            yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")

    def unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list) and len({_spelled(item) for item in value}) < len(value):
            yield jsonschema.ValidationError("the items are not all different")

    def bounded(name: str) -> Any:
        follow = kind.VALIDATORS[name]

        def keyword(validator: Any, reference: str, value: Any, schema: Any) -> Iterator[Any]:
            if time.monotonic() > _deadline.get():
                raise ValueError("checking the value against its schema takes too long")
            yield from follow(validator, reference, value, schema) or ()

        return keyword

    references = {name: bounded(name) for name in _REFERENCES if name in kind.VALIDATORS}
    extend: Any = jsonschema.validators.extend
    return extend(kind, {"pattern": matches, "uniqueItems": unique, **references})
