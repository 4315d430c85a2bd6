"""`returns=`: what shape an agent's result must have, checked by the host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from types import FunctionType
from typing import TYPE_CHECKING, Annotated, Any, ForwardRef, Literal, TypeVar, get_args, get_origin

from .errors import ConfigurationError
from .plain import plain
from .sizes import no_collection

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

    from .schemas import Schema

_MOST_CHARS = 1_000


class Returns:
    """A Python type, a pydantic model or a JSON schema that results must fit. `schema` is the JSON schema, or None.

    This is for what the caller asks. What agents ask of each other is checked in their sandboxes: see `elsewhere`.
    """

    def __init__(self, returns: Any) -> None:
        self.schema: dict[str, Any] | None = None
        self._adapter: TypeAdapter[Any] | None = None
        self._checker: Schema | None = None
        if returns is None:
            return
        if isinstance(returns, Mapping):
            from .schemas import Schema  # slow to import, and few need it

            try:
                self.schema = json.loads(json.dumps(dict(returns), allow_nan=False))  # as the agent is shown it
            except (TypeError, ValueError, RecursionError) as error:
                raise ConfigurationError(
                    f"returns is not a JSON schema: {error_text(error)}; for a dict of types write a TypedDict, a "
                    "dataclass or a pydantic model"
                ) from None
            if any(not isinstance(key, str) for key in returns):
                raise ConfigurationError("returns is not a JSON schema: its keys must be text")
            try:
                self._checker = Schema(self.schema or {})
            except ValueError as error:
                raise ConfigurationError(f"returns is not a valid JSON schema: {shortened(str(error))}") from None
            return
        _refuse_text(returns)
        from pydantic import TypeAdapter  # slow to import, too

        try:
            self._adapter = TypeAdapter(returns)
            self.schema = self._adapter.json_schema()
        except Exception as error:  # a class of the caller's may raise anything while pydantic reads it
            raise ConfigurationError(
                f"returns must be a type pydantic knows or a JSON schema, not {returns!r:.200}: {shortened(error_text(error))}"
            ) from error

    @classmethod
    def elsewhere(cls, schema: Mapping[str, Any] | None) -> Returns:
        """The schema that one agent asks of another: this process hands it on, builds nothing from it and checks nothing."""
        result = cls(None)
        result.schema = None if schema is None else dict(schema)
        return result

    def validate(self, value: Any) -> Any:
        """`value` as the asked type. Raises ValueError with one readable reason, whatever a validator of the type raises."""
        if self._adapter is not None:
            from pydantic import ValidationError

            try:
                return _whole(self._adapter.validate_python(value))
            except ValidationError as refused:
                problem: BaseException = refused
                # A strict model takes a date or a tuple only from JSON, which is what agents have to give.
                if (text := _as_json(value)) is not None:
                    try:
                        return _whole(self._adapter.validate_json(text))
                    except KeyboardInterrupt:
                        raise
                    except BaseException as refused_too:
                        problem = refused_too
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                problem = error
            sentence = (
                describe(problem)
                if isinstance(problem, ValidationError)
                else f"the check of it raised {error_text(problem)}"
            )
            raise ValueError(shortened(sentence)) from None
        if self._checker is not None:
            try:
                self._checker.check(value)
            except ValueError as error:
                raise ValueError(shortened(str(error))) from None
        return value

    def plain(self, value: Any) -> Any:
        """A validated value as plain data, for the trace and for a parent's REPL. Raises ValueError where it has none."""
        if self._adapter is not None:
            with suppress(Exception):  # a serializer of the caller's: what was validated is there all the same
                value = self._adapter.dump_python(value)
        with no_collection():
            return plain(value)


def _refuse_text(returns: Any) -> None:
    """Refuse types written as text anywhere in `returns`: pydantic would evaluate them, wherever they came from.

    Annotations of the caller's own classes are left to pydantic, which reads them where they stand.
    """
    waiting, seen = [returns], set()
    while waiting:
        hint = waiting.pop()
        if isinstance(hint, str | ForwardRef):
            text = hint.__forward_arg__ if isinstance(hint, ForwardRef) else hint
            raise ConfigurationError(
                f"returns must be a type or a JSON schema, not text ({text!r:.80}): text is never evaluated; give the type "
                "itself, such as list[str]"
            )
        if isinstance(hint, list | tuple):
            waiting.extend(hint)
            continue
        if isinstance(hint, FunctionType):
            raise ConfigurationError(f"returns must be a type or a JSON schema, not the function {hint.__name__}")
        if id(hint) in seen:
            continue
        seen.add(id(hint))
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Literal:
            continue
        waiting.extend(arguments[:1] if origin is Annotated else arguments)
        if isinstance(hint, TypeVar):
            waiting.extend(part for part in (hint.__bound__, *hint.__constraints__) if part is not None)
        for name in ("__supertype__", "__value__"):  # NewType, and an alias of type
            if not isinstance(hint, type) and (inner := getattr(hint, name, None)) is not None:
                waiting.append(inner)


def _whole(value: Any) -> Any:
    """What pydantic leaves unread (`Iterable[int]`), read: checked to its end, and a list."""
    return list(value) if type(value).__name__ == "ValidatorIterator" else value


def error_text(error: BaseException) -> str:
    """An exception as `Type: message`, also where its message cannot be had."""
    try:
        text = str(error)
    except BaseException:
        text = "(its message cannot be shown)"
    name = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        text = f"{text}: {'; '.join(error_text(inner) for inner in error.exceptions[:3])}"
    return shortened(f"{name}: {text}") if text else name


def _as_json(value: Any) -> str | None:
    """`value` as JSON, None where something of it would be lost."""
    try:
        text = json.dumps(value)
        return text if json.loads(text) == value else None
    except (TypeError, ValueError, RecursionError):
        return None


def shortened(reason: str) -> str:
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
