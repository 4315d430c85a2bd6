"""Events ↔ lines of a trace file.

A line is one JSON object: `kind`, `time`, and the fields of the event that differ from their defaults. A `blob` line
holds a large value once, under a hash of its contents, before the first event that refers to it. Token ids are base64
of little-endian int32, readings of the clock of float64, log-probs of float32 (so they come back rounded to 24 bits). A
prompt in token ids is written as its difference to the node's previous call: `[n, ids]` keeps the first n of that prompt
and answer and goes on with `ids`, which makes a trace linear in the length of an append-only conversation.

Whatever is encoded can be decoded: a value that a field cannot hold becomes the nearest one that it can.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from enum import IntEnum
from itertools import chain
from typing import Any, Literal, NamedTuple

from ..errors import TraceError, described
from ..messages import Message, ToolCall
from ..status import Status
from ..usage import Usage
from . import schema
from .redact import Redactor
from .schema import (
    SCHEMA_VERSION,
    Event,
    ModelCalled,
    NodeEnded,
    NodeResumed,
    NodeStarted,
    RunEnded,
    RunResumed,
    RunStarted,
    Scored,
)
from .values import (
    BLOB,
    CUT,
    LEFT_OUT,
    MAX_INT_BITS,
    MAX_VALUES,
    PIECE,
    bytes_pieces,
    json_pieces,
    pack,
    pack_number,
    spelled,
    string_pieces,
    to_json,
    unpack,
)

LARGE = 4096
"""Strings of more characters, and contexts of more bytes, stand once in the file as a blob."""
_REMEMBERED = 64 * 1024
"""Strings of more characters are hashed once while they are the same object: one document may go to many agents."""
_SMALL_VALUES = 500
_SMALL_CHARS = 200
_KINDS: dict[str, type[Event]] = {
    event.kind: event
    for event in (
        schema.RunStarted,
        schema.NodeStarted,
        schema.ModelCalled,
        schema.HostCalled,
        schema.CellRan,
        schema.ClockRead,
        schema.NodeEnded,
        schema.RunEnded,
        schema.Scored,
        schema.CallBegan,
        schema.RunResumed,
        schema.NodeResumed,
        schema.Steered,
        schema.ApprovalAsked,
        schema.ApprovalAnswered,
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


class Detail(IntEnum):
    """How much of an event is written."""

    OUTLINE = 0
    """That an agent started, how it ended and what it used; nothing else of an event."""
    NO_LARGE_VALUES = 1
    """Everything but large values (contexts, arguments, results), which become a note of their size."""
    FULL = 2


class Encoder:
    """Turns the events of one file into lines; remembers which blobs the file already holds."""

    def __init__(self, redactor: Redactor | None = None) -> None:
        self._redactor = redactor or Redactor()
        self._written: set[str] = set()
        self._pending: list[list[bytes]] = []
        self._fresh: list[str] = []
        self._recent: dict[int, tuple[str, Any]] = {}
        self._prompts: dict[str, array[int]] = {}
        self._undo_prompt: tuple[str, array[int] | None] | None = None
        self._detail = Detail.FULL
        self._heavy = False

    def continues(self, decoder: Decoder) -> None:
        """Go on with the file that `decoder` has read to its end."""
        self._written.update(decoder._blobs)
        self._prompts.update(decoder._prompts)

    def encode(self, event: Event) -> bytes:
        """The lines of one event, each ended by a newline: the blobs it needs that the file lacks, then itself."""
        return b"".join(self.pieces(event))

    def pieces(self, event: Event, detail: Detail = Detail.FULL, *, heavy: bool = False) -> list[bytes]:
        """What `encode` gives, in pieces; nothing where no part of the event is written at this detail.

        A `heavy` event is encoded by calls none of which takes long, so that a thread can do it beside an event loop.
        `undo` takes back what the encoder remembers of the latest event, where its lines are not written.
        """
        self._detail, self._heavy = detail, heavy
        self._fresh, self._undo_prompt = [], None
        self._pending.clear()
        outline = detail is Detail.OUTLINE
        if outline and not isinstance(event, _OUTLINE):
            return []
        line: dict[str, Any] = {"schema_version": SCHEMA_VERSION} if isinstance(event, RunStarted) else {}
        line["kind"] = event.kind
        for name, kind, default in _FIELDS[event.kind]:
            if outline and name in _LARGE_FIELDS:
                continue
            value = getattr(event, name)
            if value is default or (default is not MISSING and type(value) is type(default) and value == default):
                continue
            if value is None and (kind == "Any" or kind.endswith("| None")):
                line[name] = None
            elif name == "prompt_token_ids" and isinstance(event, ModelCalled):
                line[name] = self._prompt(event)
            else:
                line[name] = self._context(value) if name == "context" else _PACKERS[kind](self, value)
        if not heavy and not self._pending:
            return [to_json(line) + b"\n"]
        body = json_pieces(line) if heavy else (to_json(line),)
        return [*chain.from_iterable(self._pending), *body, b"\n"]

    def undo(self) -> None:
        """Forget the latest event, whose lines were not written."""
        self._written.difference_update(self._fresh)
        self._recent.clear()
        if self._undo_prompt is not None:
            node, before = self._undo_prompt
            if before is None:
                self._prompts.pop(node, None)
            else:
                self._prompts[node] = before

    def _pack(self, value: Any) -> Any:
        full = self._detail is Detail.FULL
        return pack(value, self._text, self._data, most=MAX_VALUES if full else _SMALL_VALUES)

    def _data(self, data: bytes) -> Any:
        if len(data) <= LARGE:
            return self._redactor.data(data)
        if self._detail is not Detail.FULL:
            return _cut(f"{len(data):,} bytes")
        if len(data) <= PIECE:
            return self._redactor.data(data)
        return self._blob(list(bytes_pieces(self._redactor.data_pieces(data))))

    def _string(self, value: Any) -> Any:
        """A field that is text; only an outline cuts it."""
        if type(value) is str and len(value) <= _SMALL_CHARS:
            return self._redactor.text(value)
        return self._text(_as_text(value), whole=self._detail is not Detail.OUTLINE)

    def _text(self, text: str, *, whole: bool = False) -> Any:
        """`text` or a marker for it. What is `whole` is never cut, for others learn from it."""
        if self._detail is Detail.OUTLINE and len(text) > _SMALL_CHARS:
            text = text[:_SMALL_CHARS] + CUT
        if len(text) <= LARGE:
            return self._redactor.text(text)
        if self._detail is not Detail.FULL and not whole:
            return _cut(f"{len(text):,} characters")
        known = self._recent.get(id(text))
        if known is not None and known[0] is text:
            return known[1]
        if len(text) <= PIECE:
            reference = self._blob([to_json(self._redactor.text(text))])
        else:
            reference = self._blob(list(string_pieces(self._redactor.text_pieces(text))))
        if len(text) > _REMEMBERED:
            self._recent[id(text)] = (text, reference)
            if len(self._recent) > 8:  # bounded, for what is remembered is also kept alive
                del self._recent[next(iter(self._recent))]
        return reference

    def _context(self, value: Any) -> Any:
        packed = self._pack(value)
        if isinstance(packed, list) or (isinstance(packed, dict) and packed.keys() != {BLOB}):
            body = list(json_pieces(packed)) if self._heavy else [to_json(packed)]
            if sum(map(len, body)) > LARGE:
                return self._blob(body) if self._detail is Detail.FULL else _cut("a large context")
        return packed

    def _blob(self, body: Sequence[bytes]) -> dict[str, str]:
        digest = _hash(body)
        if digest not in self._written:
            self._written.add(digest)
            self._fresh.append(digest)
            self._pending.append([b'{"kind":"blob","hash":"' + digest.encode() + b'","value":', *body, b"}\n"])
        return {BLOB: digest}

    def _message(self, message: Message) -> dict[str, Any]:
        packed: dict[str, Any] = {
            "role": self._text(_as_text(message.role)),
            "content": self._string(message.content),
        }
        if message.tool_calls:
            packed["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if message.tool_call_id is not None:
            packed["tool_call_id"] = self._text(_as_text(message.tool_call_id))
        return packed

    def _call(self, call: ToolCall) -> dict[str, Any]:
        parts = {"id": call.id, "name": call.name, "arguments": call.arguments}
        return {name: self._text(_as_text(part), whole=True) for name, part in parts.items()}

    def _prompt(self, event: ModelCalled) -> Any:
        before = self._prompts.get(event.node)
        self._undo_prompt = (event.node, before)
        if event.prompt_token_ids is None:
            return None
        try:
            prompt, answer = _ids(event.prompt_token_ids), _ids(event.token_ids or ())
        except (TypeError, ValueError, OverflowError):
            return None
        before = _EMPTY if before is None else before
        same = min(len(before), len(prompt))
        kept = same
        if before[:same] != prompt[:same]:  # a fork: rare, so the slow search for its place is no loss
            kept = next(place for place in range(same) if before[place] != prompt[place])
        self._prompts[event.node] = prompt + answer
        return [kept, _base64(prompt[kept:])]


_Packer = Callable[[Encoder, Any], Any]
_PACKERS: dict[str, _Packer] = {
    "str": Encoder._string,
    "bool": lambda _, value: bool(value),
    "int": lambda _, value: pack_number(_as_whole(value)),
    "float": lambda _, value: pack_number(_as_number(value)),
    "Any": Encoder._pack,
    "Status": Encoder._pack,
    "Usage": lambda _, value: _usage(value),
    "Mapping[str, Any]": lambda encoder, value: encoder._pack(
        {_as_text(key): item for key, item in dict(value).items()}
    ),
    "Sequence[Any]": lambda encoder, value: [encoder._pack(item) for item in value],
    "Sequence[int]": lambda _, value: _write_array("i", value),
    "Sequence[float]": lambda _, value: _write_array("f", value),
    "Doubles": lambda _, value: _write_array("d", value) or "",
    "Sequence[Message]": lambda encoder, value: [encoder._message(message) for message in value],
    "Sequence[ToolCall]": lambda encoder, value: [encoder._call(call) for call in value],
}
"""By the annotation in schema.py, as `_READERS`."""
_PACKERS |= {f"{kind} | None": pack for kind, pack in _PACKERS.items()}

_OUTLINE = (RunStarted, NodeStarted, NodeEnded, RunEnded, Scored, RunResumed, NodeResumed)
_LARGE_FIELDS = frozenset({"context", "returns", "result", "settings", "limits"})


def _hash(body: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    return digest.hexdigest()[:32]


def _cut(what: str) -> str:
    return f"{CUT} [{what}, {LEFT_OUT}"


class Decoder:
    """Turns the lines of one file into events; keeps the blobs it has met."""

    def __init__(self) -> None:
        self._blobs: dict[str, Any] = {}
        self._prompts: dict[str, array[int]] = {}

    def decode(self, line: bytes) -> Event | None:
        """The event of one line; None for a blob. Raises TraceError (without the place) for anything else."""
        try:
            raw = json.loads(line)
        except (ValueError, RecursionError, MemoryError) as error:
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
        except Exception as error:  # whatever a line of a stranger leads to
            raise TraceError(f"a {kind} event that cannot be read ({described(error)})") from error

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
            if type(kept) is not int:
                raise TraceError(f"{_shown(kept)} where int is expected")
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


def _write_array(kind: Literal["i", "f", "d"], values: Iterable[Any]) -> str | None:
    try:
        return _base64(array(kind, values))
    except (TypeError, ValueError, OverflowError):  # ids that are none: better no ids than others
        return None


def _base64(values: array[Any]) -> str:
    return base64.b64encode(_little_endian(values)).decode("ascii")


def _read_array(text: Any, kind: Literal["i", "f", "d"]) -> list[Any]:
    values: array[Any] = array(kind)
    values.frombytes(base64.b64decode(text, validate=True))
    return _little_endian(values).tolist()


def _little_endian(values: array[Any]) -> array[Any]:
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _as_text(value: Any) -> str:
    return value if type(value) is str else str.__str__(value) if isinstance(value, str) else spelled(value)


def _as_whole(value: Any) -> int:
    if isinstance(value, int):
        number = int(value)
        return number if number.bit_length() <= MAX_INT_BITS else 0
    return int(value) if isinstance(value, float) and value.is_integer() else 0


def _as_number(value: Any) -> float:
    return value if isinstance(value, float) else _as_whole(value)


def _usage(usage: Usage) -> dict[str, Any]:
    packed = {}
    for name, kind in _USAGE.items():
        value = getattr(usage, name)
        if type(value) is int and not value:
            continue
        number = _as_whole(value) if kind == "int" else _as_number(value)
        if number:
            packed[name] = pack_number(number)
    return packed


def _read_usage(raw: Any, blobs: Mapping[str, Any]) -> Usage:
    return Usage(**{name: _READERS[_USAGE[name]](value, blobs) for name, value in raw.items()})


def _plain(*types: type) -> Callable[[Any, Mapping[str, Any]], Any]:
    def read(raw: Any, blobs: Mapping[str, Any]) -> Any:
        value = unpack(raw, blobs)
        if type(value) not in types:
            raise TraceError(f"{_shown(value)} where {types[0].__name__} is expected")
        return value

    return read


def _shown(value: Any) -> str:
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # a number too long to be spelt
        return f"a {type(value).__name__}"


def _each(raw: Any) -> Iterator[Any]:
    if not isinstance(raw, list):
        raise TraceError(f"{_shown(raw)} where a list is expected")
    return iter(raw)


def _read_call(raw: Any, blobs: Mapping[str, Any]) -> ToolCall:
    return ToolCall(**{name: _text(part, blobs) for name, part in raw.items()})


def _read_message(raw: Any, blobs: Mapping[str, Any]) -> Message:
    calls = tuple(_read_call(call, blobs) for call in _each(raw.pop("tool_calls", [])))
    return Message(**{name: _text(part, blobs) for name, part in raw.items()}, tool_calls=calls)


_text, _whole, _number = _plain(str), _plain(int), _plain(float, int)
_USAGE = {spec.name: str(spec.type) for spec in fields(Usage)}

# By the annotation in schema.py, so that a field of a type that nothing here can read fails on import.
_READERS: dict[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "str": _text,
    "str | None": _text,
    "bool": _plain(bool),
    "int": _whole,
    "int | None": _whole,
    "float": _number,
    "float | None": _number,
    "Any": unpack,
    "Mapping[str, Any]": _plain(dict),
    "Sequence[Any]": lambda raw, blobs: tuple(unpack(item, blobs) for item in _each(raw)),
    "Sequence[int]": lambda raw, _: _read_array(raw, "i"),
    "Sequence[int] | None": lambda raw, _: _read_array(raw, "i"),
    "Sequence[float] | None": lambda raw, _: _read_array(raw, "f"),
    "Doubles": lambda raw, _: _read_array(raw, "d"),
    "Sequence[Message]": lambda raw, blobs: tuple(_read_message(message, blobs) for message in _each(raw)),
    "Sequence[ToolCall]": lambda raw, blobs: tuple(_read_call(call, blobs) for call in _each(raw)),
    "Usage": _read_usage,
    "Status": lambda raw, _: Status(raw),
}
if _unknown := {spec.type for specs in _FIELDS.values() for spec in specs} - (_READERS.keys() & _PACKERS.keys()):
    raise TypeError(f"trace fields of unknown types: {_unknown}")
