"""Whether a plain value fits a JSON schema of a bounded subset. Pure functions of the standard library, for the sandbox.

`check_schema` refuses whatever this module would not check, so that nothing is silently unchecked; `misfit` gives the
verdicts of JSON Schema 2020-12. Patterns are Python's `re`: they run in the sandbox, under the clock of its cell.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Any

MAX_BYTES, MAX_VALUES, MAX_DEPTH = 64 * 1024, 2_000, 32
"""Largest schema: its bytes as a message, the values in it, its nesting."""

_SHOWN = 80
_REASONS = 3
_DEFINITIONS = ("$defs", "definitions")

Schema = Mapping[str, Any] | bool
Path = tuple[str | int, ...]


# -- kinds of values -------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_TYPES: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _key(value: Any) -> Any:
    """Equal for values that are equal in JSON: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, bool):
        return (bool, value)
    if isinstance(value, list):
        return (list, *map(_key, value))
    if isinstance(value, dict):
        return (dict, frozenset((key, _key(item)) for key, item in value.items()))
    return value


def show(value: Any) -> str:
    """A value in an error message: short, whatever its size."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length():,} bits"
    if isinstance(value, (str, bytes)):
        return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}…"
    if isinstance(value, list):
        return "[]" if not value else f"a list of {len(value):,} items"
    if isinstance(value, dict):
        return "{}" if not value else f"a dict with {len(value):,} keys"
    return repr(value)


# -- the schema itself -----------------------------------------------------------------------------------------------

_IGNORED = frozenset(
    (
        "$schema",
        "$comment",
        "title",
        "description",
        "default",
        "examples",
        "format",
        "deprecated",
        "readOnly",
        "writeOnly",
    )
)
"""Notes for readers. `format` is one of them, as the standard has it."""
_COUNTS = ("minProperties", "maxProperties", "minItems", "maxItems", "minLength", "maxLength")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_ONE = ("items", "additionalProperties", "not")
_SEVERAL = ("prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", *_DEFINITIONS)
_SAME_VALUE = ("anyOf", "oneOf", "allOf")


def _wrong(where: str, text: str) -> TypeError:
    return TypeError(f"returns{where}: {text}")


def check_schema(schema: Any) -> None:
    """Raises TypeError, naming the place and the keyword, for a schema that `misfit` would not check as it is written."""
    if not isinstance(schema, dict):
        raise TypeError(f"returns must be a type or a JSON schema, not {show(schema)}")
    _check_json(schema)
    parts = dict(_parts(schema, "", 0))
    for where, part in parts.items():
        if isinstance(part, dict):
            _check_keywords(part, where, schema)
    ended: set[int] = set()
    for part in parts.values():
        _check_ends(part, schema, (), ended)


def _check_json(schema: Any) -> None:
    waiting = [schema]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.values())
            wrong = next((key for key in item if not isinstance(key, str)), None)
        else:
            wrong = None if item is None or isinstance(item, (str, bool, list)) or _is_small(item) else item
            waiting.extend(item if isinstance(item, list) else ())
        if wrong is not None:
            raise _wrong("", f"a schema holds only JSON, and {show(wrong)} is not (keys are text, numbers below 2**64)")


def _is_small(value: Any) -> bool:
    return abs(value) < 2**64 if isinstance(value, int) else isinstance(value, float) and math.isfinite(value)


def _parts(schema: Any, where: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Every schema in a schema, with its place."""
    if not isinstance(schema, (dict, bool)):
        raise _wrong(where, f"a schema is a dict (or True or False), not {show(schema)}")
    if depth > MAX_DEPTH:
        raise _wrong("", f"the schema is nested deeper than {MAX_DEPTH} levels")
    yield where, schema
    if isinstance(schema, bool):
        return
    for keyword, value in schema.items():
        place = f"{where}[{keyword!r}]"
        if keyword in _ONE:
            if isinstance(value, list):
                raise _wrong(place, "write prefixItems for the schemas of single items")
            yield from _parts(value, place, depth + 1)
        elif keyword in _SEVERAL:
            if not isinstance(value, list) or not value:
                raise _wrong(place, f"{keyword} takes a list of schemas, not {show(value)}")
            for index, item in enumerate(value):
                yield from _parts(item, f"{place}[{index}]", depth + 1)
        elif keyword in _NAMED:
            if not isinstance(value, dict):
                raise _wrong(place, f"{keyword} takes a dict of schemas, not {show(value)}")
            for name, item in value.items():
                yield from _parts(item, f"{place}[{name!r}]", depth + 1)


def _check_keywords(schema: dict[str, Any], where: str, root: dict[str, Any]) -> None:
    for keyword, value in schema.items():
        if keyword == "$schema" and not isinstance(value, str):
            raise _wrong(where, f"$schema must be text, not {show(value)}")
        if keyword in _IGNORED or keyword in _ONE or keyword in _SEVERAL or keyword in _NAMED:
            continue
        if keyword == "$id" and not where:
            continue
        problem = _problem(keyword, value, root)
        if problem:
            raise _wrong(where, problem)


def _problem(keyword: Any, value: Any, root: dict[str, Any]) -> str | None:
    if keyword == "type":
        kinds = value if isinstance(value, list) else [value]
        unknown = [kind for kind in kinds if not isinstance(kind, str) or kind not in _TYPES]
        if unknown or not kinds:
            return f"type must be one of {', '.join(_TYPES)} (or a list of them), not {show((unknown or [value])[0])}"
    elif keyword in _COUNTS:
        if not _is_integer(value) or value < 0:
            return f"{keyword} must be a whole number of at least 0, not {show(value)}"
    elif keyword in _BOUNDS:
        if not _is_number(value):
            return f"{keyword} must be a number, not {show(value)}"
    elif keyword == "multipleOf":
        if not _is_number(value) or not 0 < value < math.inf:
            return f"multipleOf must be a number above 0, not {show(value)}"
    elif keyword == "required":
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            return f"required takes a list of names, not {show(value)}"
    elif keyword == "enum":
        if not isinstance(value, list):
            return f"enum takes a list of values, not {show(value)}"
    elif keyword == "uniqueItems":
        if not isinstance(value, bool):
            return f"uniqueItems must be True or False, not {show(value)}"
    elif keyword == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError, OverflowError, RecursionError) as error:
            return f"pattern is no regular expression: {error}"
    elif keyword == "$ref":
        if not isinstance(value, str) or _target(value, root) is None:
            return f"$ref may only name a schema under #/$defs/ (or # for the whole), not {show(value)}"
    elif keyword != "const":
        known = "type, enum, const, anyOf, oneOf, allOf, not, properties, required, additionalProperties, items, …"
        return f"the keyword {show(keyword)} is not supported here; use {known}"
    return None


def _target(reference: str, root: Mapping[str, Any]) -> Any:
    """The schema that a `$ref` names; None where there is none."""
    if reference == "#":
        return root
    parts = reference.split("/")
    if len(parts) != 3 or parts[0] != "#" or parts[1] not in _DEFINITIONS:
        return None
    name = parts[2].replace("~1", "/").replace("~0", "~")
    return root.get(parts[1], {}).get(name)


def _check_ends(schema: Any, root: Mapping[str, Any], path: tuple[int, ...], ended: set[int]) -> None:
    """Refuse a schema that leads back to itself without looking at any part of the value."""
    if not isinstance(schema, dict) or id(schema) in ended:
        return
    if id(schema) in path:
        raise _wrong("", "the schema refers to itself without end")
    path = (*path, id(schema))
    if "$ref" in schema:
        _check_ends(_target(schema["$ref"], root), root, path, ended)
    for keyword in _SAME_VALUE:
        for part in schema.get(keyword, ()):
            _check_ends(part, root, path, ended)
    _check_ends(schema.get("not"), root, path, ended)
    ended.add(id(schema))


# -- values ----------------------------------------------------------------------------------------------------------


class _Misfit(Exception):
    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason


def misfit(schema: Schema, value: Any) -> str | None:
    """Why plain data does not fit a checked schema, as one line with its place; None where it does."""
    root = schema if isinstance(schema, Mapping) else {}
    try:
        _fit(schema, value, (), root)
    except _Misfit as problem:
        where = "".join(f"[{_place(part)}]" for part in problem.path)
        return f"value{where}: {problem.reason}" if where else problem.reason
    except RecursionError:
        return "the value is nested too deeply for its schema"
    return None


def _place(part: str | int) -> str:
    return show(part)


def _fit(schema: Schema, value: Any, path: Path, root: Mapping[str, Any]) -> None:
    if isinstance(schema, bool):
        if not schema:
            raise _Misfit(path, f"nothing may stand here, and {show(value)} does")
        return
    reference = schema.get("$ref")
    if reference is not None:
        _fit(_target(reference, root), value, path, root)
    _fit_any_kind(schema, value, path)
    if isinstance(value, str):
        _fit_text(schema, value, path)
    elif isinstance(value, list):
        _fit_list(schema, value, path, root)
    elif isinstance(value, dict):
        _fit_dict(schema, value, path, root)
    elif _is_number(value):
        _fit_number(schema, value, path)
    for part in schema.get("allOf", ()):
        _fit(part, value, path, root)
    if "anyOf" in schema:
        _fit_some(schema["anyOf"], value, path, root)
    if "oneOf" in schema:
        fitting = [part for part in schema["oneOf"] if _fits(part, value, path, root)]
        if not fitting:
            _fit_some(schema["oneOf"], value, path, root)
        elif len(fitting) > 1:
            raise _Misfit(path, f"{show(value)} fits {len(fitting)} of the schemas of oneOf, and may fit only one")
    if "not" in schema and _fits(schema["not"], value, path, root):
        raise _Misfit(path, f"{show(value)} fits what `not` rules out")


def _fits(schema: Schema, value: Any, path: Path, root: Mapping[str, Any]) -> bool:
    try:
        _fit(schema, value, path, root)
    except _Misfit:
        return False
    return True


def _fit_some(schemas: list[Schema], value: Any, path: Path, root: Mapping[str, Any]) -> None:
    problems: list[_Misfit] = []
    for schema in schemas:
        try:
            return _fit(schema, value, path, root)
        except _Misfit as problem:
            problems.append(problem)
    deepest = max(problems, key=lambda problem: len(problem.path))
    if len(deepest.path) > len(path):  # of the right kind, and wrong in a part: that is what to mend
        raise deepest
    reasons = list(dict.fromkeys(problem.reason for problem in problems))
    start = f"{show(value)} is not "
    if all(reason.startswith(start) for reason in reasons):
        raise _Misfit(path, start + " or ".join(reason.removeprefix(start) for reason in reasons[: 2 * _REASONS]))
    raise _Misfit(path, "; or: ".join(reasons[:_REASONS]))


def _fit_any_kind(schema: Mapping[str, Any], value: Any, path: Path) -> None:
    if "type" in schema:
        kinds = schema["type"]
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not any(_TYPES[kind](value) for kind in kinds):
            raise _Misfit(path, f"{show(value)} is not of type {' or '.join(kinds)}")
    if "enum" in schema:
        key = _key(value)
        if all(_key(allowed) != key for allowed in schema["enum"]):
            shown = ", ".join(show(allowed) for allowed in schema["enum"][:20])
            raise _Misfit(path, f"{show(value)} is not one of {shown}{', …' if len(schema['enum']) > 20 else ''}")
    if "const" in schema and _key(value) != _key(schema["const"]):
        raise _Misfit(path, f"{show(value)} is not {show(schema['const'])}")


def _fit_text(schema: Mapping[str, Any], value: str, path: Path) -> None:
    _fit_count(schema, "Length", len(value), "characters", path)
    if "pattern" in schema and re.search(schema["pattern"], value) is None:
        raise _Misfit(path, f"{show(value)} does not match the pattern {show(schema['pattern'])}")


def _fit_count(schema: Mapping[str, Any], noun: str, count: int, what: str, path: Path) -> None:
    if count < schema.get("min" + noun, 0):
        raise _Misfit(path, f"{count:,} {what} are fewer than {schema['min' + noun]:,}")
    if count > schema.get("max" + noun, math.inf):
        raise _Misfit(path, f"{count:,} {what} are more than {schema['max' + noun]:,}")


def _fit_list(schema: Mapping[str, Any], value: list[Any], path: Path, root: Mapping[str, Any]) -> None:
    _fit_count(schema, "Items", len(value), "items", path)
    first = schema.get("prefixItems", [])
    for index, (part, item) in enumerate(zip(first, value, strict=False)):
        _fit(part, item, (*path, index), root)
    rest = schema.get("items", True)
    if rest is not True:
        for index in range(len(first), len(value)):
            _fit(rest, value[index], (*path, index), root)
    if schema.get("uniqueItems"):
        seen = set()
        for index, item in enumerate(value):
            key = _key(item)
            if key in seen:
                raise _Misfit((*path, index), f"{show(item)} is in the list twice")
            seen.add(key)


def _fit_dict(schema: Mapping[str, Any], value: dict[Any, Any], path: Path, root: Mapping[str, Any]) -> None:
    _fit_count(schema, "Properties", len(value), "keys", path)
    for name in schema.get("required", ()):
        if name not in value:
            raise _Misfit(path, f"the key {show(name)} is missing")
    properties = schema.get("properties", {})
    for name, part in properties.items():
        if name in value:
            _fit(part, value[name], (*path, name), root)
    rest = schema.get("additionalProperties", True)
    if rest is not True:
        for name, item in value.items():
            if name not in properties:
                if rest is False:
                    raise _Misfit(path, f"the key {show(name)} is not expected")
                _fit(rest, item, (*path, name), root)


def _fit_number(schema: Mapping[str, Any], value: float, path: Path) -> None:
    shown = show(value)
    if "minimum" in schema and value < schema["minimum"]:
        raise _Misfit(path, f"{shown} is less than {show(schema['minimum'])}")
    if "maximum" in schema and value > schema["maximum"]:
        raise _Misfit(path, f"{shown} is more than {show(schema['maximum'])}")
    if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
        raise _Misfit(path, f"{shown} is not more than {show(schema['exclusiveMinimum'])}")
    if "exclusiveMaximum" in schema and value >= schema["exclusiveMaximum"]:
        raise _Misfit(path, f"{shown} is not less than {show(schema['exclusiveMaximum'])}")
    if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
        raise _Misfit(path, f"{shown} is not a multiple of {show(schema['multipleOf'])}")


def _is_multiple(value: float, unit: float) -> bool:
    if not isinstance(value, int) and not math.isfinite(value):
        return False
    if isinstance(unit, int):
        return value % unit == 0
    try:
        quotient = value / unit
        return int(quotient) == quotient
    except OverflowError:
        return (Fraction(value) / Fraction(unit)).denominator == 1
