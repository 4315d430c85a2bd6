"""`returns=`: what shape an agent's result must have, checked by the host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from .errors import ConfigurationError
from .plain import plain

if TYPE_CHECKING:
    from .schemas import Schema

_MOST_CHARS = 1_000


class Returns:
    """A Python type, a pydantic model or a JSON schema that results must fit. `schema` is the JSON schema, or None."""

    def __init__(self, returns: Any) -> None:
        self.schema: dict[str, Any] | None = None
        self._adapter: TypeAdapter[Any] | None = None
        self._checker: Schema | None = None
        if returns is None:
            return
        if isinstance(returns, Mapping):
            from .schemas import Schema  # slow to import, and few need it

            self.schema = dict(returns)
            try:
                self._checker = Schema(self.schema)
            except ValueError as error:
                raise ConfigurationError(f"returns is no valid JSON schema: {_cut(str(error))}") from None
            return
        try:
            self._adapter = TypeAdapter(returns)
            self.schema = self._adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError) as error:
            raise ConfigurationError(
                f"returns must be a type pydantic knows or a JSON schema, not {returns!r}"
            ) from error

    def validate(self, value: Any) -> Any:
        """`value` as the asked type. Raises ValueError with one readable reason."""
        if self._adapter is not None:
            try:
                return self._adapter.validate_python(value)
            except ValidationError as refused:
                problem = refused
                # A strict model takes a date or a tuple only from JSON, which is what agents have to give.
                if (text := _as_json(value)) is not None:
                    try:
                        return self._adapter.validate_json(text)
                    except ValidationError as refused_too:
                        problem = refused_too
                raise ValueError(_cut(describe(problem))) from None
        if self._checker is not None:
            try:
                self._checker.check(value)
            except ValueError as error:
                raise ValueError(_cut(str(error))) from None
        return value

    def plain(self, value: Any) -> Any:
        """A validated value as plain data, for the trace and for a parent's REPL."""
        return plain(self._adapter.dump_python(value) if self._adapter is not None else value)


def _as_json(value: Any) -> str | None:
    """`value` as JSON, None where something of it would be lost."""
    try:
        text = json.dumps(value)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def _cut(reason: str) -> str:
    """A reason goes into a prompt, and may quote a value of any size."""
    return reason if len(reason) <= _MOST_CHARS else f"{reason[: _MOST_CHARS // 2]} … {reason[-_MOST_CHARS // 2 :]}"


def describe(error: ValidationError) -> str:
    """The first few problems of a pydantic error in one line."""
    parts = []
    for item in error.errors(include_url=False, include_context=False)[:3]:
        where = ".".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}" if where else item["msg"])
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f" (and {more} more)" if more > 0 else "")
