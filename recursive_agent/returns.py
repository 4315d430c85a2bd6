"""`returns=`: what shape an agent's result must have, checked by the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

from .errors import ConfigurationError
from .plain import plain


class Returns:
    """A Python type, a pydantic model or a JSON schema that results must fit. `schema` is the JSON schema, or None."""

    def __init__(self, returns: Any) -> None:
        self.schema: dict[str, Any] | None = None
        self._adapter: TypeAdapter[Any] | None = None
        self._validator: Any = None
        if returns is None:
            return
        if isinstance(returns, Mapping):
            import jsonschema  # slow to import, and few need it

            self.schema = dict(returns)
            kind = jsonschema.validators.validator_for(self.schema, default=jsonschema.Draft202012Validator)
            try:
                kind.check_schema(self.schema)
            except jsonschema.SchemaError as error:
                raise ConfigurationError(f"returns is no valid JSON schema: {error.message}") from None
            self._validator = kind(self.schema)
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
            except ValidationError as error:
                raise ValueError(describe(error)) from None
        if self._validator is not None:
            import jsonschema

            worst = jsonschema.exceptions.best_match(self._validator.iter_errors(value))
            if worst is not None:
                where = "".join(f"[{part!r}]" for part in worst.absolute_path)
                raise ValueError(f"value{where}: {worst.message}" if where else worst.message)
        return value

    def plain(self, value: Any) -> Any:
        """A validated value as plain data, for the trace and for a parent's REPL."""
        return plain(self._adapter.dump_python(value) if self._adapter is not None else value)


def describe(error: ValidationError) -> str:
    """The first few problems of a pydantic error in one line."""
    parts = []
    for item in error.errors(include_url=False, include_context=False)[:3]:
        where = ".".join(str(part) for part in item["loc"])
        parts.append(f"{where}: {item['msg']}" if where else item["msg"])
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f" (and {more} more)" if more > 0 else "")
