"""What compiled cells call at run time, and the builtins that the agent's code sees."""

from __future__ import annotations

import builtins
import types
import weakref
from _string import formatter_field_name_split as split_field  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any, NoReturn, cast

from . import names

AGENT_CLASSES: weakref.WeakSet[type] = weakref.WeakSet()
"""Classes made by agents' code. Only their instances have attributes that start with an underscore."""

_MISSING = object()
_TUPLE_METHODS = frozenset({"_asdict", "_replace", "_fields", "_make", "_field_defaults"})


# -- attributes ------------------------------------------------------------------------------------------------------


def _refuse(value: object, name: str, why: str = "") -> NoReturn:
    # No `obj=`: the exception must not carry what was asked about.
    raise AttributeError(f"the attribute {name!r} of {type(value).__name__!r} objects is not available{why}")


def _owned(value: object, name: str) -> bool:
    """Whether the attribute is the agent's own: on a class it defined, or on an instance of one."""
    cls = value if isinstance(value, type) else type(value)
    if cls not in AGENT_CLASSES:
        return False
    for base in cls.__mro__:
        if name in base.__dict__:
            return base in AGENT_CLASSES
    return True  # in the instance's own dictionary, or nowhere


def guarded_getattr(value: Any, name: Any, default: Any = _MISSING) -> Any:
    """`getattr` under the policy; the guard for names that the source alone does not decide."""
    if type(name) is not str:
        raise TypeError("attribute names must be plain strings")
    problem = names.attribute_error(name)
    if problem is not None:
        raise AttributeError(problem)
    if names.is_guarded(name):
        return _guarded(value, name, default)
    return getattr(value, name) if default is _MISSING else getattr(value, name, default)


def _guarded(value: Any, name: str, default: Any) -> Any:
    if name in names.READABLE_DUNDERS:
        return _dunder(value, name, default)
    if name in ("format", "format_map") and not _owned(value, name):
        if isinstance(value, str):
            return _SafeFormat(value, name)
        if isinstance(value, type) and issubclass(value, str):
            return _format_text if name == "format" else _format_mapping
    elif (
        (name == "obj" and not isinstance(value, (BaseException, memoryview)))
        or (name == "register" and not isinstance(value, type))
        or _owned(value, name)
        or (name in _TUPLE_METHODS and _is_named_tuple(value))
    ):
        return getattr(value, name) if default is _MISSING else getattr(value, name, default)
    if default is not _MISSING:
        return default
    _refuse(value, name)


def _is_named_tuple(value: Any) -> bool:
    cls = value if isinstance(value, type) else type(value)
    return issubclass(cls, tuple) and cls in AGENT_CLASSES


def _dunder(value: Any, name: str, default: Any) -> Any:
    if name == "__class__":
        return safe_type(value)
    if name == "__dict__":
        return guarded_vars(value)
    if name == "__init__":
        if isinstance(value, type) and (value in AGENT_CLASSES or issubclass(value, BaseException)):
            return value.__init__  # type: ignore[misc]
        _refuse(value, name)
    if name in ("__cause__", "__context__", "__notes__") and not isinstance(value, BaseException):
        _refuse(value, name)
    return getattr(value, name) if default is _MISSING else getattr(value, name, default)


def guarded_hasattr(value: Any, name: Any) -> bool:
    """`hasattr` under the policy."""
    try:
        guarded_getattr(value, name)
    except AttributeError:
        return False
    return True


_WRITABLE = (types.FunctionType, types.SimpleNamespace, BaseException)


def guarded_write(value: Any, name: str) -> Any:
    """`value` itself, where its attribute `name` may be set or deleted: only on what the agent's code made."""
    cls = value if isinstance(value, type) else type(value)
    if cls in AGENT_CLASSES or (isinstance(value, _WRITABLE) and not name.startswith("_")):
        return value
    raise AttributeError(f"attributes of {type(value).__name__!r} objects cannot be set here")


def _writing(value: Any, name: Any) -> Any:
    if type(name) is not str:
        raise TypeError("attribute names must be plain strings")
    problem = names.attribute_error(name)
    if problem is not None or names.is_special(name):
        raise AttributeError(problem or f"the attribute {name!r} cannot be set")
    return guarded_write(value, name)


def guarded_setattr(value: Any, name: Any, new: Any) -> None:
    """`setattr` under the policy."""
    setattr(_writing(value, name), name, new)


def guarded_delattr(value: Any, name: Any) -> None:
    """`delattr` under the policy."""
    delattr(_writing(value, name), name)


# -- formatting ------------------------------------------------------------------------------------------------------


class _SafeFormatter(Formatter):
    """`str.format` whose fields are looked up like any other attribute of the agent's code."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        first, rest = split_field(field_name)
        value = self.get_value(first, args, kwargs)
        for is_attribute, key in rest:
            value = guarded_getattr(value, str(key)) if is_attribute else value[key]
        return value, first


def _format_text(template: str, /, *args: Any, **kwargs: Any) -> str:
    return _SafeFormatter().vformat(str(template), args, kwargs)


def _format_mapping(template: str, mapping: Mapping[str, Any], /) -> str:
    return _SafeFormatter().vformat(str(template), (), mapping)


class _SafeFormat:
    """The bound method `format` or `format_map` of a string."""

    __slots__ = ("_method", "_template")

    def __init__(self, template: str, method: str) -> None:
        self._template = template
        self._method = _format_text if method == "format" else _format_mapping

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        return self._method(self._template, *args, **kwargs)


# -- classes ---------------------------------------------------------------------------------------------------------

_BASES: set[type] = {
    object,
    *(int, float, str, bytes, list, dict, set, frozenset, tuple),
}


def allow_bases(classes: Iterable[type]) -> None:
    """Let agents' classes inherit from these too."""
    _BASES.update(classes)


def make_class(name: str, bases: tuple[Any, ...], body: dict[str, Any], **keywords: Any) -> type:
    """The metaclass of every class in a cell: decides what may be inherited from, and remembers the class as the agent's."""
    for base in bases:
        known = isinstance(base, type) and (base in AGENT_CLASSES or base in _BASES or issubclass(base, BaseException))
        if not known or issubclass(base, (SystemExit, KeyboardInterrupt)):
            raise TypeError(f"cannot inherit from {getattr(base, '__name__', base)!r} in this sandbox")
    allowed = names.METHODS | names.CLASS_VARIABLES | {"__module__", "__qualname__", "__classcell__", "__annotations__"}
    allowed |= {"__orig_bases__", "__type_params__", "__static_attributes__", "__firstlineno__"}
    for key in body:
        if names.is_special(key) and key not in allowed:
            raise TypeError(f"{key!r} cannot be defined in a class")

    def fill(namespace: dict[str, Any]) -> None:
        for key, value in body.items():  # one by one: an Enum's namespace counts its members
            namespace[key] = value

    created = types.new_class(name, bases, keywords, fill)
    AGENT_CLASSES.add(created)
    return created


class _SafeTypeMeta(type):
    def __call__(cls, *args: Any) -> Any:
        return safe_type(*args)

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, type)

    def __subclasscheck__(cls, value: type) -> bool:
        return issubclass(value, type)

    def __repr__(cls) -> str:
        return "<class 'type'>"


class SafeType(metaclass=_SafeTypeMeta):
    """What agents know as `type`: it tells the type of an object and makes no classes."""


def safe_type(*args: Any) -> Any:
    """The type of an object, except of a class: metaclasses are not given out."""
    if len(args) != 1:
        raise TypeError("type() takes one argument here: write a class statement to make a class")
    found = type(args[0])
    return SafeType if issubclass(found, type) else found


# -- builtins --------------------------------------------------------------------------------------------------------


def guarded_vars(value: Any = _MISSING) -> dict[str, Any]:
    """A copy of the attributes of an instance of the agent's own classes."""
    if type(value) in AGENT_CLASSES or type(value) is types.SimpleNamespace:
        return dict(value.__dict__)
    raise TypeError("vars() works on instances of your own classes; globals() lists your variables")


def _unavailable(name: str, why: str) -> Callable[..., NoReturn]:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise PermissionError(f"{name}() is not available in this sandbox: {why}")

    function.__name__ = function.__qualname__ = name
    return function


_PLAIN = [
    "abs",
    "aiter",
    "all",
    "anext",
    "any",
    "ascii",
    "bin",
    "bool",
    "bytearray",
    "bytes",
    "callable",
    "chr",
    "classmethod",
    "complex",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "format",
    "frozenset",
    "hash",
    "hex",
    "id",
    "int",
    "isinstance",
    "issubclass",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "memoryview",
    "min",
    "next",
    "object",
    "oct",
    "ord",
    "pow",
    "property",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "slice",
    "sorted",
    "staticmethod",
    "str",
    "sum",
    "super",
    "tuple",
    "zip",
    "True",
    "False",
    "None",
    "Ellipsis",
    "NotImplemented",
    "__build_class__",
]


def make_builtins(variables: dict[str, Any], importer: Callable[..., Any]) -> dict[str, Any]:
    """The builtins of one REPL whose global variables are `variables`."""

    def visible() -> dict[str, Any]:
        return {k: v for k, v in variables.items() if not names.is_special(k)}

    def guarded_dir(*value: Any) -> list[str]:
        return sorted(visible()) if not value else [name for name in dir(*value) if not name.startswith("_")]

    found: dict[str, Any] = {name: getattr(builtins, name) for name in _PLAIN}
    for name, value in vars(builtins).items():
        if isinstance(value, type) and issubclass(value, BaseException):
            found[name] = value
    found.update(
        getattr=guarded_getattr,
        hasattr=guarded_hasattr,
        setattr=guarded_setattr,
        delattr=guarded_delattr,
        type=SafeType,
        vars=guarded_vars,
        dir=guarded_dir,
        globals=visible,
        locals=visible,
        open=_unavailable("open", "there are no files; your input is in your variables"),
        input=_unavailable("input", "nobody is there to answer"),
        eval=_unavailable("eval", "write the expression itself"),
        exec=_unavailable("exec", "write the code itself"),
        compile=_unavailable("compile", "write the code itself"),
        exit=_unavailable("exit", "call finish(value) to end"),
        quit=_unavailable("quit", "call finish(value) to end"),
        __import__=importer,
    )
    found[names.GET] = guarded_getattr
    found[names.WRITE] = guarded_write
    found[names.CLASS] = cast(Any, make_class)
    return found
