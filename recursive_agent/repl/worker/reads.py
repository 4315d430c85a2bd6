"""Reading attributes in cells: by allow-lists, by type.

Three kinds of objects: *open* ones (instances of the agent's own classes, facades) give every plain name except those
that a library base holds back; *known* types give the names that `kinds` lists for them; everything else gives nothing.
"""

from __future__ import annotations

import enum
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from . import names
from .output import CELL_PREFIX

MISSING: Any = object()
Substitute = Callable[[Any], Any]

_open: dict[int, frozenset[str]] = {}
"""By id of a type: the names that its instances do not give out by themselves."""
_known: dict[int, frozenset[str]] = {}
"""By id of a type: the names that its instances give out."""
_known_classes: dict[int, frozenset[str]] = {}
"""By id of a class: the names that the class itself gives out."""
_substitutes: dict[tuple[int, str], tuple[Substitute, Substitute | None]] = {}
"""By id of a type and name: what is read in the attribute's place, from an instance and from the class."""
_agents: dict[int, weakref.ref[type]] = {}
"""Classes made by agents' code, by id."""
_real: set[int] = set()
"""Ids of the classes that agents may hold; `type()` tells of others by a stand-in."""
_with_variables: set[int] = set()
_kept: list[type] = []  # known types are never collected, so that their ids stay theirs
_stand_ins: dict[int, type] = {}

_INSIDES = (
    types.FrameType,
    types.CodeType,
    types.TracebackType,
    types.ModuleType,
    types.CellType,
    types.MappingProxyType,
)


# -- the lists -------------------------------------------------------------------------------------------------------


def allow(cls: type, allowed: Iterable[str] = (), on_class: Iterable[str] = ()) -> None:
    """Let instances of `cls` give out the attributes `allowed`; the class gives them out too, and `on_class`."""
    found = frozenset(allowed)
    _known[id(cls)] = _known.get(id(cls), frozenset()) | found
    _known_classes[id(cls)] = _known_classes.get(id(cls), frozenset()) | found | frozenset(on_class)
    _kept.append(cls)


def allow_public(cls: type, *without: str) -> None:
    """Let `cls` and its instances give out every public name that there is now, except `without`."""
    allow(cls, (name for name in dir(cls) if not name.startswith("_") and name not in without))


def substitute(cls: type, name: str, instead: Substitute, on_class: Substitute | None = None) -> None:
    """Have `instead(value)` read in the place of the attribute `name` of instances of `cls`."""
    _substitutes[id(cls), name] = (instead, on_class)
    _kept.append(cls)


def open_up(cls: type) -> None:
    """Let instances of `cls`, a class of ours without attributes of its own, give out whatever they hold."""
    _open[id(cls)] = frozenset()
    _kept.append(cls)


def reveal(cls: type) -> None:
    """Let `type()` give out `cls` itself."""
    _real.add(id(cls))
    _kept.append(cls)


def adopt(cls: type) -> None:
    """Remember a class as the agent's own."""
    key = id(cls)
    if key in _agents:
        return
    refused = held_by_library(cls.__mro__[1:])
    metaclass: type = type(cls)
    refused.update(name for base in metaclass.__mro__ for name in base.__dict__ if not names.is_special(name))

    def forget(_: object) -> None:
        _agents.pop(key, None)
        _open.pop(key, None)

    _agents[key] = weakref.ref(cls, forget)  # first: a cell may end between the two, and no id may outlive its class
    _open[key] = frozenset(refused | names.FORBIDDEN_ATTRIBUTES)


def held_by_library(bases: Iterable[type]) -> set[str]:
    """The names that objects of a class with these in its `__mro__` have of the library's, which does not give them out."""
    library = [base for base in bases if id(base) not in _agents and base is not object]
    ids = {id(base) for base in library}
    refused = {name for base in library for name in base.__dict__ if not names.is_special(name)}
    refused.difference_update(*(_known.get(key, ()) for key in ids))
    refused.update(name for (owner, name) in _substitutes if owner in ids)
    return refused


def stands_in_cell(function: types.FunctionType) -> bool:
    """Whether the agent wrote this function, so that guards stand wherever it reads or sets an attribute."""
    return function.__code__.co_filename.startswith(CELL_PREFIX)


def is_agents(cls: type) -> bool:
    """Whether an agent's code made this class."""
    return id(cls) in _agents


def is_in_cell(cls: type) -> bool:
    """Whether a cell makes this class, or has made it: one that is being made is not remembered yet."""
    return is_agents(cls) or cls.__module__ == "__main__"


# -- the guards ------------------------------------------------------------------------------------------------------


class Types(dict[str, set[type]]):
    """By name of an attribute: the types whose instances are known to give it out.

    Compiled cells look here first: `(x if type(x) in types["name"] else guard(x, "name")).name`.
    """

    def __missing__(self, name: str) -> set[type]:
        types_of: set[type] = set()
        self[name] = types_of
        return types_of


def make_guard(types_of: Types) -> Callable[[Any, str], Any]:
    """The guard of one REPL: gives the object to read an attribute from, and remembers in `types_of` what it allowed."""
    classes = Types()

    def guard(value: Any, name: str) -> Any:
        cls = type(value)
        if cls in types_of[name]:
            return value
        refused = _open.get(id(cls))
        if name in _known.get(id(cls), ()) or (refused is not None and name not in refused):
            types_of[name].add(cls)
            return value
        if not isinstance(value, type):
            return source(value, name)
        if value in classes[name]:
            return value
        found = source(value, name)
        if found is value and name not in _open.get(id(value), ()):  # no agent can change what this name means there
            classes[name].add(value)
        return found

    return guard


def source(value: Any, name: str) -> Any:
    """The object to read the attribute from: `value`, or one that holds what stands in its place. AttributeError if none.

    For names that are no special names.
    """
    cls = type(value)
    refused = _open.get(id(cls))
    if name in _known.get(id(cls), ()) or (refused is not None and name not in refused):
        return value
    if isinstance(value, type):
        return _source_of_class(value, name)
    if cls is super:
        return _source_of_super(value, name)
    if refused is not None:
        return _source_of_inherited(value, name)
    found = _substitutes.get((id(cls), name))
    if found is not None:
        return _holder(name, found[0](value))
    if issubclass(cls, BaseException):
        return _source_of_error(value, name)
    if cls is types.FunctionType and name in value.__dict__ and not name.startswith("_"):
        return _holder(name, _checked(value, name, value.__dict__[name]))
    _refuse(value, name)


def read(value: Any, name: str) -> Any:
    """The attribute of a name that is no special name."""
    return getattr(source(value, name), name)


def _holder(name: str, held: Any) -> Any:
    return types.SimpleNamespace(**{name: held})


def read_special(value: Any, name: str) -> Any:
    """The attribute of a special name, one of `names.READABLE_DUNDERS`, each in its own safe way."""
    if name == "__class__":
        return safe_type(value)
    if name == "__dict__":
        return variables_of(value)
    if name == "__init__":
        if isinstance(value, type) and (is_agents(value) or issubclass(value, BaseException)):
            return _init_of(_owner(value.__mro__, name), value.__init__)  # type: ignore[misc]
    elif name == "__members__":
        if isinstance(value, type) and is_agents(value) and issubclass(value, enum.Enum):
            return dict(value.__members__)
    elif name in ("__cause__", "__context__", "__notes__"):
        if isinstance(value, BaseException):
            return getattr(value, name)
    elif is_agents(type(value)):
        return getattr(value, name)
    else:
        found = getattr(value, name)
        if found is None or type(found) is str:
            return found
    _refuse(value, name)


def guarded_getattr(value: Any, name: Any, default: Any = MISSING, /) -> Any:
    """`getattr` of cells."""
    if type(name) is not str:
        raise TypeError("attribute names must be plain strings")
    problem = names.attribute_error(name)
    if problem is not None:
        raise AttributeError(problem)
    look_up = read_special if names.is_special(name) else read
    if default is MISSING:
        return look_up(value, name)
    try:
        return look_up(value, name)
    except AttributeError:
        return default


def guarded_hasattr(value: Any, name: Any, /) -> bool:
    """`hasattr` of cells."""
    try:
        guarded_getattr(value, name)
    except AttributeError:
        return False
    return True


def _owner(mro: Iterable[type], name: str) -> type | None:
    return next((base for base in mro if name in base.__dict__), None)


def _bound(found: Any, instance: Any, owner: type) -> Any:
    """What stands in a class, as an instance or (with None) the class gives it.

    It is not looked up a second time: the agent's code may run in between (garbage collection ends its generators), and
    what it deletes would uncover what a base of the library's has under the name.
    """
    get = getattr(type(found), "__get__", None)
    return found if get is None else get(found, instance, owner)


def _own(value: Any, owner: type, name: str) -> Any:
    """An attribute that the class `owner` of the agent's gives to `value`, or the variable that goes before it."""
    found = owner.__dict__[name]
    if not hasattr(type(found), "__set__") and not hasattr(type(found), "__delete__"):
        try:
            return object.__getattribute__(value, "__dict__")[name]
        except (AttributeError, KeyError):
            pass
    return _bound(found, value, type(value))


def _source_of_inherited(value: Any, name: str) -> Any:
    """An attribute that a library base of an agent's class has too: the agent's own, or what stands in its place."""
    owner = _owner(type(value).__mro__, name)
    if name not in names.FORBIDDEN_ATTRIBUTES:
        if owner is None:
            return value
        if is_agents(owner):
            return _holder(name, _own(value, owner, name))
        found = _substitutes.get((id(owner), name))
        if found is not None:
            return _holder(name, found[0](value))
    _refuse(value, name)


def _source_of_class(value: type, name: str) -> Any:
    """Of an attribute of a class; what its metaclass defines (`register`, `mro`) is never given out."""
    owner = _owner(value.__mro__, name)
    if owner is None or name in names.FORBIDDEN_ATTRIBUTES:
        if owner is None and is_agents(value) and issubclass(value, enum.Enum) and name in value.__members__:
            return value
        _refuse(value, name)
    if is_agents(owner):
        if name not in _open.get(id(value), (name,)):
            return value
        return _holder(name, _bound(owner.__dict__[name], None, value))
    found = _substitutes.get((id(owner), name))
    if found is not None:
        if found[1] is None:
            _refuse(value, name)
        return _holder(name, found[1](value))
    bases = value.__mro__ if is_agents(value) or issubclass(value, BaseException) else (value,)
    if any(name in _known_classes.get(id(base), ()) for base in bases):
        found = getattr(value, name)
        checked = _of_instances(owner, found)
        return value if checked is found else _holder(name, checked)
    _refuse(value, name)


def _of_instances(owner: type | None, found: Any) -> Any:
    """A method of the library's, written in Python and read from its class, takes instances of that class alone.

    It could read and set attributes of any object otherwise. The methods that dataclasses makes for a class of the agent's
    are the library's too.
    """
    if owner is None or type(found) is not types.FunctionType or stands_in_cell(found):
        return found

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if owner not in type(self).__mro__:
            raise TypeError(f"{found.__qualname__}() takes a {owner.__name__!r} object first")
        return found(self, *args, **kwargs)

    method.__name__, method.__qualname__ = found.__name__, found.__qualname__
    return method


def _init_of(owner: type | None, found: Any) -> Any:
    """`__init__` read from a class. That of an error in C is for objects of the agent's classes alone.

    To initialise another one again takes from it, for a while, what other C code relies on.
    """
    if type(found) is types.FunctionType or owner is None or not issubclass(owner, BaseException):
        return _of_instances(owner, found)

    def __init__(self: Any, /, *args: Any, **kwargs: Any) -> None:
        if not is_in_cell(type(self)):
            raise TypeError(f"{owner.__name__}.__init__() takes an object of a class that you define first")
        found(self, *args, **kwargs)

    return __init__


def _new_of(this: type, found: Any) -> Any:
    """`super().__new__` for subclasses of the class that asks: others are to be made by calling them alone.

    They rely on it that their `__init__` has run.
    """

    def __new__(cls: Any, /, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(cls, type) and this in cls.__mro__ and is_in_cell(this)):
            raise TypeError("super().__new__() takes the class itself, or one that inherits from it")
        return found(cls, *args, **kwargs)

    return __new__


def read_super(value: Any, name: str) -> Any:
    """A special method through `super()`, one of `names.SUPER_METHODS`."""
    if type(value) is not super:  # the cell has a `super` of its own
        _refuse(value, name)
    found = getattr(value, name)
    this, _, mro = _parts_of_super(value)
    if name == "__new__":
        return _new_of(this, found)
    if type(found) is types.FunctionType:  # super() of a class
        later = mro[mro.index(this) + 1 :]
        return _of_instances(next((base for base in later if base.__dict__.get(name) is found), None), found)
    return found


def _source_of_super(value: Any, name: str) -> Any:
    """Of an attribute through `super()`: as an instance of the class that has it would give it."""
    this, instance, mro = _parts_of_super(value)
    later = mro[mro.index(this) + 1 :] if this in mro else ()
    owner = _owner(later, name)
    if owner is None or name in names.FORBIDDEN_ATTRIBUTES:
        _refuse(value, name)
    if is_agents(owner):
        start, held = type(instance), instance
        if isinstance(instance, type) and this in instance.__mro__:  # super() of a class
            start, held = instance, None
        return _holder(name, _bound(owner.__dict__[name], held, start))
    found = _substitutes.get((id(owner), name))
    if found is not None:
        instead = found[1] if isinstance(instance, type) else found[0]
        if instead is not None:
            return _holder(name, instead(instance))
    if any(name in _known_classes.get(id(base), ()) for base in later):
        method = getattr(value, name)
        checked = _of_instances(owner, method)
        return value if checked is method else _holder(name, checked)
    _refuse(value, name)


def _parts_of_super(value: Any) -> tuple[type, Any, tuple[type, ...]]:
    this = object.__getattribute__(value, "__thisclass__")
    instance = object.__getattribute__(value, "__self__")
    start = object.__getattribute__(value, "__self_class__")
    return this, instance, start.__mro__ if start is not None else ()


def _source_of_error(value: BaseException, name: str) -> Any:
    """Errors of the library give what is listed for one of their classes, and the public attributes they were given."""
    if any(name in _known.get(id(base), ()) for base in type(value).__mro__):
        return _holder(name, _checked(value, name, getattr(value, name)))
    if not name.startswith("_") and _owner(type(value).__mro__, name) is None and name in value.__dict__:
        return _holder(name, _checked(value, name, value.__dict__[name]))
    _refuse(value, name)


def _checked(value: Any, name: str, found: Any) -> Any:
    """What no attribute of anything may be, in case a list is wrong."""
    if isinstance(found, _INSIDES):
        _refuse(value, name)
    return found


def _refuse(value: Any, name: str) -> NoReturn:
    # No `obj=`: the exception must not carry what was asked about.
    if isinstance(value, type):
        mro: tuple[type, ...] = (*value.__mro__, type)
        what = f"class {value.__name__!r}"
    else:
        mro = type(value).__mro__
        what = f"{type(value).__name__!r} object"
    if _owner(mro, name) is None:
        raise AttributeError(f"{what} has no attribute {name!r}")
    raise AttributeError(f"the attribute {name!r} of this {what} is not available in this sandbox")


def variables_of(value: Any = MISSING, /) -> dict[str, Any]:
    """A copy of the attributes of an instance of the agent's own classes."""
    if is_agents(type(value)) or id(type(value)) in _with_variables:
        try:
            return dict(object.__getattribute__(value, "__dict__"))
        except AttributeError:
            pass  # it has slots
    raise TypeError("vars() works on instances of your own classes; globals() lists your variables")


def show_variables(cls: type) -> None:
    """Let `vars()` show the attributes of instances of `cls`."""
    _with_variables.add(id(cls))
    _kept.append(cls)


# -- types -----------------------------------------------------------------------------------------------------------


class _SafeTypeMeta(type):
    def __call__(cls, *args: Any) -> Any:
        if len(args) != 1:
            raise TypeError("type() takes one argument here: write a class statement to make a class")
        return safe_type(args[0])

    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, type)

    def __subclasscheck__(cls, value: type) -> bool:
        return issubclass(value, type)

    def __repr__(cls) -> str:
        return "<class 'type'>"


class SafeType(metaclass=_SafeTypeMeta):
    """What agents know as `type`: it tells the type of an object and makes no classes."""


SafeType.__name__ = SafeType.__qualname__ = "type"


class _StandInMeta(type):
    """A type that agents do not get: it has its name, and tells its instances; it can be neither called nor inherited."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(f"{cls.__name__!r} objects cannot be made by calling their type in this sandbox")

    def __instancecheck__(cls, value: object) -> bool:
        return any(_stand_ins.get(id(base)) is cls for base in type(value).__mro__)

    def __subclasscheck__(cls, value: type) -> bool:
        return value is cls or any(_stand_ins.get(id(base)) is cls for base in value.__mro__)

    def __repr__(cls) -> str:
        return f"<class {cls.__name__!r}>"


def safe_type(value: Any, /) -> Any:
    """The type of an object where agents may hold it, otherwise a stand-in; metaclasses are never told."""
    cls = type(value)
    if id(cls) in _real or is_agents(cls):
        return cls
    if issubclass(cls, type):
        return SafeType
    if issubclass(cls, BaseException):
        return cls
    stand_in = _stand_ins.get(id(cls))
    if stand_in is None:
        _kept.append(cls)
        stand_in = _stand_ins[id(cls)] = _StandInMeta(cls.__name__, (), {"__slots__": (), "__doc__": None})
    return stand_in
