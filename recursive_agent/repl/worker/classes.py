"""Classes of the agent's own: made by class statements, by `namedtuple`, `Enum` and alike, always through `make_class`."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import gc
import inspect
import keyword
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from . import names
from .reads import adopt, allow, held_by_library, is_agents, is_in_cell, open_up, show_variables, stands_in_cell

_BASES: set[type] = {object, int, float, str, bytes, list, dict, set, frozenset, tuple}

_NO_BASES = (
    *(SystemExit, KeyboardInterrupt, StopIteration),
    *(UnicodeEncodeError, UnicodeDecodeError, UnicodeTranslateError),
)
"""C code relies on the types of what the last four hold: a method that dataclasses makes sets what it is told, and an
`__init__` of the agent's sets nothing."""

_BODY = names.METHODS | names.CLASS_VARIABLES
_BODY |= {"__module__", "__qualname__", "__classcell__", "__annotations__", "__orig_bases__", "__type_params__"}
_BODY |= {"__static_attributes__", "__firstlineno__"}
"""Special names that may stand in the namespace of a class; the later ones are put there by the compiler."""

ANSWERED_BY_PYTHON = frozenset({"split", "subgroup", "derive"})
"""Methods of exception groups that `except*` calls from C, where a wrong result is not checked for."""


class _AnsweredByPython:
    """A method of exception groups that nothing of the agent's can stand before: no variable, no base class."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        method = BaseExceptionGroup.__dict__[self._name]
        return method if instance is None else method.__get__(instance, owner)

    def __set__(self, instance: Any, value: Any) -> NoReturn:
        raise AttributeError(f"{self._name} cannot be defined in this sandbox")


_METHODS = (types.FunctionType, staticmethod, classmethod, property, type(functools.lru_cache(len)), functools.partial)
"""What a decorated special method may be: compared by identity, wherever the library looks it up in a table."""


class _Called:
    """A special method that is another object (what a decorator of the agent's gave back): the library sees a function."""

    __slots__ = ("_given",)

    def __init__(self, given: Any) -> None:
        self._given = given

    def __get__(self, instance: Any, owner: Any = None) -> Callable[..., Any]:
        given = self._given

        def method(*args: Any, **kwargs: Any) -> Any:
            get = getattr(type(given), "__get__", None)
            return (given if get is None else get(given, instance, owner))(*args, **kwargs)

        return method


def allow_bases(classes: Iterable[type]) -> None:
    """Let agents' classes inherit from these too."""
    _BASES.update(classes)


def is_own_function(value: Any) -> bool:
    """Whether this is a function that stands in a cell."""
    return type(value) is types.FunctionType and stands_in_cell(value)


def make_class(name: str, bases: tuple[Any, ...], body: dict[str, Any], /, **keywords: Any) -> type:
    """The metaclass of every class in a cell: decides what may be inherited from, and remembers the class as the agent's."""
    for base in bases:
        known = isinstance(base, type) and (is_agents(base) or base in _BASES or issubclass(base, BaseException))
        if not known or issubclass(base, _NO_BASES):
            raise TypeError(f"cannot inherit from {getattr(base, '__name__', base)!r} in this sandbox")
    if any(issubclass(base, enum.Enum) for base in bases) and set(keywords) - {"boundary"}:
        raise TypeError("an Enum class takes no argument but boundary=")
    namespace = {key: value for key, value in body.items() if not names.is_temporary(key)}
    for key in namespace:
        if names.is_special(key) and key not in _BODY:
            raise TypeError(f"{key!r} cannot be defined in a class")
    if any(issubclass(base, BaseExceptionGroup) for base in bases):
        if not ANSWERED_BY_PYTHON.isdisjoint(namespace):
            raise TypeError("split, subgroup and derive cannot be defined in this sandbox")
        namespace.update((name, _AnsweredByPython(name)) for name in ANSWERED_BY_PYTHON)
    if "__slots__" in namespace:
        namespace["__slots__"] = _slots(namespace["__slots__"])
    if "__new__" in namespace:
        namespace["__new__"] = _checked_new(namespace["__new__"])
    if "__getattr__" in namespace:
        namespace["__getattr__"] = _checked_getattr(namespace["__getattr__"])
    for key in names.METHODS.intersection(namespace):
        if namespace[key] is not None and type(namespace[key]) not in _METHODS:
            namespace[key] = _Called(namespace[key])

    def fill(made: dict[str, Any]) -> None:
        for key, value in namespace.items():  # one by one: an Enum's namespace counts its members
            made[key] = value

    _check_inherited_fields(name, bases)
    created = types.new_class(name, bases, keywords, fill)
    adopt(created)
    return created


def _check_inherited_fields(name: str, bases: tuple[type, ...]) -> None:
    """The code that dataclasses makes reads each field as it stands: none may be called as what a base holds back."""
    inherited = [cls for base in bases for cls in base.__mro__]
    fields = {field.name for cls in inherited for field in cls.__dict__.get("__dataclass_fields__", {}).values()}
    for field in fields & held_by_library(inherited) if fields else ():
        raise _field_error(name, field)


def _field_error(cls: str, field: str) -> TypeError:
    return TypeError(f"{cls!r} cannot have a field {field!r}: a class that it inherits from has a method of that name")


def _slots(given: Any) -> tuple[str, ...]:
    found = (given,) if isinstance(given, str) else tuple(given)
    for name in found:
        if type(name) is not str or (names.is_special(name) and name not in ("__dict__", "__weakref__")):
            raise TypeError("__slots__ must be plain attribute names")
    return found


def _checked_new(given: Any) -> Any:
    """`__new__` that makes instances of its class alone: what asks for it (an Enum, a generic) sets attributes on them."""
    if type(given) is staticmethod:
        given = given.__func__
    if not is_own_function(given):
        raise TypeError("__new__ must be a function of the class's own")

    def __new__(cls: Any, /, *args: Any, **kwargs: Any) -> Any:
        made = given(cls, *args, **kwargs)
        if not (isinstance(cls, type) and is_in_cell(type(made)) and issubclass(type(made), cls)):
            raise TypeError("__new__ must return an instance of its class")
        return made

    return staticmethod(__new__)


def _checked_getattr(given: Any) -> Any:
    """`__getattr__` that answers for plain names alone: Python's own C code asks for special ones, and trusts the answer."""
    if not is_own_function(given):
        raise TypeError("__getattr__ must be a function of the class's own")

    def __getattr__(self: Any, name: Any) -> Any:
        if type(name) is not str or names.is_special(name) or name in names.FORBIDDEN_ATTRIBUTES:
            raise AttributeError(name)
        return given(self, name)

    return __getattr__


def _plain_name(value: Any, what: str) -> str:
    if type(value) is not str or not value.isidentifier() or keyword.iskeyword(value) or value.startswith("_"):
        raise ValueError(f"{what} must be plain names without a leading underscore, not {value!r}")
    return value


def _class_name(value: Any) -> str:
    if type(value) is not str or not value.isidentifier() or keyword.iskeyword(value) or names.is_special(value):
        raise ValueError(f"the name of a class must be a plain name, not {value!r}")
    return value


# -- enums -----------------------------------------------------------------------------------------------------------


class _EnumType(enum.EnumMeta):
    """The metaclass of agents' enums: calling one looks a member up, or makes a class of plain names."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls not in _ENUMS:
            if len(args) == 1 and not options:
                return super().__call__(args[0])
            raise TypeError(f"{cls.__name__}() takes one value to look up")
        return _functional_enum(cls, *args, **options)


def _functional_enum(base: type, name: Any, members: Any, *, start: int = 1) -> type:
    if isinstance(members, str):
        members = members.replace(",", " ").split()
    pairs = list(members.items()) if isinstance(members, Mapping) else list(members)
    body: dict[str, Any] = {"__module__": "__main__", "__qualname__": _class_name(name)}
    for index, item in enumerate(pairs):
        member, value = (
            item if isinstance(item, (tuple, list)) else (item, enum.auto() if start == 1 else start + index)
        )
        body[_plain_name(member, "the members of an Enum")] = value
    return make_class(name, (base,), body)


class Enum(enum.Enum, metaclass=_EnumType):
    """enum.Enum of agents."""


class IntEnum(enum.IntEnum, metaclass=_EnumType):
    """enum.IntEnum of agents."""


class StrEnum(enum.StrEnum, metaclass=_EnumType):
    """enum.StrEnum of agents."""


class Flag(enum.Flag, metaclass=_EnumType):
    """enum.Flag of agents."""


class IntFlag(enum.IntFlag, metaclass=_EnumType):
    """enum.IntFlag of agents."""


_ENUMS: frozenset[Any] = frozenset({Enum, IntEnum, StrEnum, Flag, IntFlag})
for _enum in _ENUMS:
    _enum.__module__ = "enum"
allow(enum.Enum, ("name", "value"))

# -- tuples and dicts with names -------------------------------------------------------------------------------------


def namedtuple(typename: str, field_names: Any, *, rename: bool = False, defaults: Any = None) -> type:
    """collections.namedtuple."""
    fields = field_names.replace(",", " ").split() if type(field_names) is str else list(field_names)
    for index, field in enumerate(fields):
        if rename and not (type(field) is str and field.isidentifier() and not field.startswith("_")):
            fields[index] = f"_{index}"
        elif not (rename and keyword.iskeyword(field)):
            _plain_name(field, "the fields of a namedtuple")
    make: Callable[..., type] = collections.namedtuple
    made = make(_class_name(typename), fields, rename=bool(rename), defaults=defaults, module="__main__")
    adopt(made)
    return made


class _Maker:
    """Something of typing that is both inherited from and called: `NamedTuple`, `TypedDict`."""

    __slots__ = ("__name__", "_base", "_make")

    def __init__(self, name: str, base: Any, make: Callable[..., type]) -> None:
        self.__name__ = name
        self._base = base
        self._make = make

    def __mro_entries__(self, bases: Any) -> tuple[Any, ...]:
        return (self._base,)

    def __call__(self, *args: Any, **kwargs: Any) -> type:
        return self._make(*args, **kwargs)

    def __repr__(self) -> str:
        return f"typing.{self.__name__}"


def _named_tuple(typename: str, fields: Iterable[Any] = ()) -> type:
    """A namedtuple with types."""
    pairs = [(_plain_name(name, "the fields of a NamedTuple"), kind) for name, kind in fields]
    annotations = dict(pairs)
    body = {"__module__": "__main__", "__qualname__": _class_name(typename), "__annotations__": annotations}
    return make_class(typename, (_NAMED_TUPLE,), body)


def _typed_dict(typename: str, fields: Mapping[str, Any], *, total: bool = True) -> type:
    """A dict with types."""
    annotations = {name: kind for name, kind in fields.items() if type(name) is str}
    body = {"__module__": "__main__", "__qualname__": _class_name(typename), "__annotations__": annotations}
    return make_class(typename, (_TYPED_DICT,), body, total=bool(total))


_NAMED_TUPLE: Any = typing._NamedTuple  # type: ignore[attr-defined]
_TYPED_DICT: Any = typing._TypedDict
NamedTuple = _Maker("NamedTuple", _NAMED_TUPLE, _named_tuple)
TypedDict = _Maker("TypedDict", _TYPED_DICT, _typed_dict)
_BASES.update([_NAMED_TUPLE, _TYPED_DICT])

# -- namespaces ------------------------------------------------------------------------------------------------------


class SimpleNamespace:
    """types.SimpleNamespace of agents, whose attributes have plain names."""

    __slots__ = ("__dict__",)

    def __init__(self, /, **values: Any) -> None:
        for name, value in values.items():
            if type(name) is not str or names.is_special(name) or name in names.FORBIDDEN_ATTRIBUTES:
                raise AttributeError(f"the attribute {name!r} cannot be set")
            self.__dict__[name] = value

    def __repr__(self) -> str:
        return f"namespace({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimpleNamespace) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]


SimpleNamespace.__module__ = "types"
open_up(SimpleNamespace)
show_variables(SimpleNamespace)

# -- decorators ------------------------------------------------------------------------------------------------------


def _check_fields(cls: type) -> None:
    """The names of fields stand in code that dataclasses makes; not every annotation was made by a class statement."""
    held = held_by_library(cls.__mro__[1:])
    for name in inspect.get_annotations(cls):
        plain = type(name) is str and name.isidentifier() and not keyword.iskeyword(name) and not names.is_special(name)
        if not plain or (name in ANSWERED_BY_PYTHON and issubclass(cls, BaseExceptionGroup)):
            raise TypeError(f"the fields of a dataclass must have plain names, not {name!r}")
        if name in held:
            raise _field_error(cls.__name__, name)
        _own_default(cls, name)
    for base in cls.__mro__:
        for field in base.__dict__.get("__dataclass_fields__", {}).values():  # one may stand in several classes
            if field.name in ANSWERED_BY_PYTHON and issubclass(cls, BaseExceptionGroup):
                raise TypeError("split, subgroup and derive cannot be fields of a group of exceptions")


_DEFAULTS = (types.FunctionType, property, functools.cached_property, types.MemberDescriptorType)
"""What is read from a class as it stands there, although it has a `__get__`."""


def _copied(field: Any) -> Any:
    made = object.__new__(dataclasses.Field)
    for name in dataclasses.Field.__slots__:
        setattr(made, name, getattr(field, name))
    return made


def _own_default(cls: type, name: str) -> None:
    """Give the class a `field()` of its own: dataclasses writes the name on it, and it may stand in other classes too."""
    for base in cls.__mro__:
        if name in base.__dict__:
            found = base.__dict__[name]
            if type(found) is dataclasses.Field:
                setattr(cls, name, _copied(found))
            elif hasattr(type(found), "__get__") and type(found) not in _DEFAULTS:
                raise TypeError(f"the default of the field {name!r} cannot be a descriptor in this sandbox")
            return


def dataclass(cls: Any = None, /, **options: Any) -> Any:
    """dataclasses.dataclass for the agent's own classes."""

    def decorate(cls: Any) -> Any:
        if not (isinstance(cls, type) and is_agents(cls)):
            raise TypeError("dataclass decorates classes that you define")
        if any(type(key) is not str for key in options):
            raise TypeError("the names of arguments must be plain text")
        if "slots" in options and issubclass(cls, BaseException):  # it makes another class, past our own metaclass
            raise TypeError("a dataclass that is an exception takes no slots=")
        documentation = cls.__dict__.get("__doc__")
        if type(documentation) is not str or not documentation:
            cls.__doc__ = cls.__name__  # made of its signature otherwise, and `inspect` evaluates what a docstring says
        collects = gc.isenabled()
        gc.disable()  # it runs the agent's generators, which could put another default in the place of one that was checked
        try:
            _check_fields(cls)
            made: type = dataclasses.dataclass(cls, **options)
        finally:
            if collects:
                gc.enable()
        adopt(made)
        return made

    return decorate if cls is None else decorate(cls)


def replace(instance: Any, /, **changes: Any) -> Any:
    """dataclasses.replace."""
    if not is_agents(type(instance)) or not dataclasses.is_dataclass(instance):
        raise TypeError("replace() takes an instance of your own dataclass")
    change: Any = dataclasses.replace
    return change(instance, **changes)


def total_ordering(cls: Any, /) -> Any:
    """functools.total_ordering for the agent's own classes."""
    if not (isinstance(cls, type) and is_agents(cls)):
        raise TypeError("total_ordering decorates classes that you define")
    return functools.total_ordering(cls)


def abstractmethod(function: Any, /) -> Any:
    """abc.abstractmethod for the agent's own functions."""
    if is_own_function(function):
        function.__isabstractmethod__ = True
    elif type(function) not in (property, classmethod, staticmethod):  # those ask the function they hold
        raise TypeError("abstractmethod decorates methods that you define")
    return function


def wraps(wrapped: Any, /) -> Callable[[Any], Any]:
    """functools.wraps: the name and the text of `wrapped` for a function of the agent's own."""

    def decorate(wrapper: Any) -> Any:
        if is_own_function(wrapper):
            for name in ("__name__", "__qualname__", "__doc__"):
                found = getattr(wrapped, name, None)
                if type(found) is str:
                    setattr(wrapper, name, found)
        return wrapper

    return decorate


def as_function(called: Any, /) -> Any:
    """`called` itself if a cell defines it; otherwise a function that calls it and carries nothing else of it."""
    if is_own_function(called):
        return called
    if not callable(called):
        raise TypeError("the first argument must be callable")

    def function(*args: Any, **kwargs: Any) -> Any:
        return called(*args, **kwargs)

    name = getattr(called, "__name__", None)
    function.__name__ = function.__qualname__ = name if type(name) is str else "function"
    return function


def refuse_functional(name: str) -> Callable[..., NoReturn]:
    """A function in the place of one that makes classes of names told by data."""

    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{name}() is not available in this sandbox: write a class statement")

    function.__name__ = function.__qualname__ = name
    return function
