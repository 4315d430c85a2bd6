"""Events ↔ lines of a trace file.

A line is one JSON object: `kind`, `time`, and the fields of the event that differ from their defaults. A `blob` line
holds a large value once, under a hash of its contents, before the first event that refers to it. Token ids are base64
of little-endian int32, log-probs of float32 (so they come back rounded to 24 bits). A prompt in token ids is written as
its difference to the node's previous call: `[n, ids]` keeps the first n of that prompt and answer and goes on with
`ids`, which makes a trace linear in the length of an append-only conversation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, asdict, fields
from typing import Any, Literal, NamedTuple

from ..errors import TraceError
from ..model.base import Message, ToolCall
from ..status import Status
from ..usage import Usage
from . import schema
from .redact import Redactor
from .schema import SCHEMA_VERSION, Event, ModelCalled, RunStarted
from .values import BLOB, pack, to_json, unpack

LARGE = 4096
"""Strings of more characters, and contexts of more bytes, stand once in the file as a blob."""
_REMEMBERED = 64 * 1024
"""Strings of more characters are hashed once while they are the same object: one document may go to many agents."""
_KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        schema.RunStarted,
        schema.NodeStarted,
        schema.ModelCalled,
        schema.HostCalled,
        schema.CellRan,
        schema.NodeEnded,
        schema.RunEnded,
        schema.Scored,
    )
}
_EMPTY = array("i")


class _Field(NamedTuple):
    name: str
    type: str
    default: Any
    """MISSING where the field is required."""


def _fields_of(event: type[Event]) -> tuple[_Field, ...]:
    found = []
    for spec in fields(event):
        default = spec.default_factory() if spec.default_factory is not MISSING else spec.default
        found.append(_Field(spec.name, str(spec.type), default))
    return tuple(found)


_FIELDS = {kind: _fields_of(event) for kind, event in _KINDS.items()}


class Encoder:
    """Turns the events of one file into lines; remembers which blobs the file already holds."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()
        self._written: set[str] = set()
        self._pending: list[bytes] = []
        self._recent: dict[int, tuple[str, Any]] = {}
        self._prompts: dict[str, array[int]] = {}

    def encode(self, event: Event) -> bytes:
        """The lines of one event, each ended by a newline: the blobs it needs that the file lacks, then itself."""
        line: dict[str, Any] = {"schema_version": SCHEMA_VERSION} if isinstance(event, RunStarted) else {}
        line["kind"] = event.kind
        for name, kind, default in _FIELDS[event.kind]:
            value = getattr(event, name)
            if value is default or (default is not MISSING and type(value) is type(default) and value == default):
                continue
            line[name] = self._field(event, name, kind, value)
        lines = [*self._pending, to_json(line), b""]
        self._pending.clear()
        return b"\n".join(lines)

    def _field(self, event: Event, name: str, kind: str, value: Any) -> Any:
        if name == "prompt_token_ids" and isinstance(event, ModelCalled):
            return self._prompt(event)
        if name == "context":
            return self._context(value)
        if value is None:
            return None
        match kind:
            case "Sequence[int] | None":
                return _write_array(_ids(value))
            case "Sequence[float] | None":
                return _write_array(array("f", value))
            case "Usage":
                return {key: number for key, number in asdict(value).items() if number}
            case "Sequence[Message]":
                return [self._message(message) for message in value]
            case "Sequence[ToolCall]":
                return [self._pack(asdict(call)) for call in value]
            case "Sequence[Any]":
                return [self._pack(item) for item in value]
            case _:
                return self._pack(value)

    def _pack(self, value: Any) -> Any:
        return pack(value, self._text, self._redactor.data)

    def _text(self, text: str) -> Any:
        if len(text) <= LARGE:
            return self._redactor.text(text)
        known = self._recent.get(id(text))
        if known is not None and known[0] is text:
            return known[1]
        reference = self._blob(to_json(self._redactor.text(text)))
        if len(text) > _REMEMBERED:
            self._recent[id(text)] = (text, reference)
            if len(self._recent) > 8:  # bounded, for what is remembered is also kept alive
                del self._recent[next(iter(self._recent))]
        return reference

    def _context(self, value: Any) -> Any:
        packed = self._pack(value)
        if isinstance(packed, list) or (isinstance(packed, dict) and packed.keys() != {BLOB}):
            body = to_json(packed)
            return packed if len(body) <= LARGE else self._blob(body)
        return packed

    def _blob(self, body: bytes) -> dict[str, str]:
        digest = hashlib.sha256(body).hexdigest()[:32]
        if digest not in self._written:
            self._written.add(digest)
            self._pending.append(b'{"kind":"blob","hash":"' + digest.encode() + b'","value":' + body + b"}")
        return {BLOB: digest}

    def _message(self, message: Message) -> dict[str, Any]:
        packed: dict[str, Any] = {"role": message.role, "content": self._text(message.content)}
        if message.tool_calls:
            packed["tool_calls"] = [self._pack(asdict(call)) for call in message.tool_calls]
        if message.tool_call_id is not None:
            packed["tool_call_id"] = self._pack(message.tool_call_id)
        return packed

    def _prompt(self, event: ModelCalled) -> Any:
        if event.prompt_token_ids is None:
            return None
        prompt = _ids(event.prompt_token_ids)
        before = self._prompts.get(event.node, _EMPTY)
        same = min(len(before), len(prompt))
        kept = same
        if before[:same] != prompt[:same]:  # a fork: rare, so the slow search for its place is no loss
            kept = next(place for place in range(same) if before[place] != prompt[place])
        self._prompts[event.node] = prompt + _ids(event.token_ids or ())
        return [kept, _write_array(prompt[kept:])]


class Decoder:
    """Turns the lines of one file into events; keeps the blobs it has met."""

    def __init__(self) -> None:
        self._blobs: dict[str, Any] = {}
        self._prompts: dict[str, array[int]] = {}

    def decode(self, line: bytes) -> Event | None:
        """The event of one line; None for a blob. Raises TraceError (without the place) for anything else."""
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TraceError(f"not a line of JSON ({error})") from error
        if not isinstance(raw, dict) or not isinstance(raw.get("kind"), str):
            raise TraceError("not an event: an object with a kind is expected")
        check_version(raw)
        raw.pop("schema_version", None)
        kind = raw.pop("kind")
        if kind != "blob" and kind not in _KINDS:
            raise TraceError(f"events of kind {kind!r} are unknown to this version of rao; update it to read this file")
        try:
            if kind != "blob":
                return self._event(kind, raw)
            self._take_blob(raw)
            return None
        except TraceError:
            raise
        except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
            raise TraceError(f"a {kind} event that cannot be read ({error})") from error

    def _take_blob(self, raw: dict[str, Any]) -> None:
        if not isinstance(raw.get("hash"), str) or "value" not in raw:
            raise TraceError("a blob without hash or value")
        unpack(raw["value"], self._blobs)  # whatever it refers to must stand before it
        self._blobs[raw["hash"]] = raw["value"]

    def _event(self, kind: str, raw: dict[str, Any]) -> Event:
        values: dict[str, Any] = {}
        for name, declared, default in _FIELDS[kind]:
            if name in raw:
                values[name] = self._field(name, declared, raw.pop(name), raw_values=values)
            elif default is MISSING:
                raise TraceError(f"a {kind} event without {name}")
        if raw:
            raise TraceError(f"a {kind} event with unknown fields ({', '.join(sorted(raw))}); update rao to read it")
        event = _KINDS[kind](**values)
        if isinstance(event, ModelCalled) and event.prompt_token_ids is not None:
            self._prompts[event.node] = _ids([*event.prompt_token_ids, *(event.token_ids or ())])
        return event

    def _field(self, name: str, declared: str, raw: Any, raw_values: Mapping[str, Any]) -> Any:
        if raw is None and (declared == "Any" or declared.endswith("| None")):
            return None
        if name == "prompt_token_ids":
            kept, rest = raw
            before = self._prompts.get(raw_values["node"], _EMPTY)
            if not 0 <= kept <= len(before):
                raise TraceError(f"a prompt that keeps {kept} of {len(before)} tokens")
            return [*before[:kept], *_read_array(rest, "i")]
        return _READERS[declared](raw, self._blobs)


def check_version(line: Mapping[str, Any]) -> None:
    """Raises TraceError for a line that says it was written by an incompatible version of rao."""
    version = line.get("schema_version", SCHEMA_VERSION)  # the first line gives it; others only in a mixed file
    if type(version) is not int:
        raise TraceError(f"schema_version is {version!r} instead of a number")
    if version != SCHEMA_VERSION:
        advice = "update rao to read it" if version > SCHEMA_VERSION else "read it with the version that wrote it"
        raise TraceError(f"the trace has schema version {version}, this rao knows {SCHEMA_VERSION}: {advice}")


def _ids(values: Iterable[int]) -> array[int]:
    return array("i", values)


def _write_array(values: array[Any]) -> str:
    return base64.b64encode(_little_endian(values)).decode("ascii")


def _read_array(text: Any, kind: Literal["i", "f"]) -> list[Any]:
    values: array[Any] = array(kind)
    values.frombytes(base64.b64decode(text, validate=True))
    return _little_endian(values).tolist()


def _little_endian(values: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _plain(*types: type) -> Callable[[Any, Mapping[str, Any]], Any]:
    def read(raw: Any, blobs: Mapping[str, Any]) -> Any:
        value = unpack(raw, blobs)
        if type(value) not in types:
            raise TraceError(f"{value!r:.80} where {types[0].__name__} is expected")
        return value

    return read


def _read_call(raw: Any, blobs: Mapping[str, Any]) -> ToolCall:
    return ToolCall(**unpack(raw, blobs))


def _read_message(raw: Any, blobs: Mapping[str, Any]) -> Message:
    calls = tuple(_read_call(call, blobs) for call in raw.pop("tool_calls", ()))
    return Message(**unpack(raw, blobs), tool_calls=calls)


_text, _whole, _number = _plain(str), _plain(int), _plain(float, int)

# By the annotation in schema.py, so that a field of a type that nothing here can read fails on import.
_READERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "str": _text,
    "str | None": _text,
    "int": _whole,
    "int | None": _whole,
    "float": _number,
    "float | None": _number,
    "Any": unpack,
    "Mapping[str, Any]": _plain(dict),
    "Sequence[Any]": lambda raw, blobs: tuple(unpack(item, blobs) for item in raw),
    "Sequence[int] | None": lambda raw, _: _read_array(raw, "i"),
    "Sequence[float] | None": lambda raw, _: _read_array(raw, "f"),
    "Sequence[Message]": lambda raw, blobs: tuple(_read_message(message, blobs) for message in raw),
    "Sequence[ToolCall]": lambda raw, blobs: tuple(_read_call(call, blobs) for call in raw),
    "Usage": lambda raw, _: Usage(**raw),
    "Status": lambda raw, _: Status(raw),
}
if _unreadable := {spec.type for specs in _FIELDS.values() for spec in specs} - set(_READERS):
    raise TypeError(f"trace fields of unknown types: {_unreadable}")
