"""Which names the agent's code may use. One set of rules, for names in the source and for names given to `getattr`."""

from __future__ import annotations

from RestrictedPython.transformer import INSPECT_ATTRIBUTES

GET, TYPE, TYPES, SPECIAL = "_getattr_", "_type_", "_types_", "_special_"
SUPER, WRITE, CLASS = "_super_", "_write_", "_class_"
EXIT, CHECK, ECHO = "_exit_", "_check_", "_echo_"
MATCH_SEQUENCE, MATCH_MAPPING, MATCH_CLASS = "_match_sequence_", "_match_mapping_", "_match_class_"
"""Variables that compiled cells use; the agent's code can neither read nor bind a name of this shape."""

_TEMPORARY = "_rao_temporary_"

FORBIDDEN_ATTRIBUTES = frozenset(INSPECT_ATTRIBUTES) | {
    # frames, code and tracebacks, whatever the version of Python
    *("tb_frame", "tb_next", "f_back", "f_builtins", "f_code", "f_generator", "f_globals", "f_locals", "f_trace"),
    *("gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "cr_origin"),
    *("ag_frame", "ag_code", "ag_await", "co_code", "co_consts", "co_names", "func_globals", "func_code"),
    # asyncio's objects lead to the loop and to frames
    *("get_loop", "get_stack", "print_stack", "get_coro", "get_context"),
    # classes
    *("mro", "_abc_impl"),
}
_PLAIN_TYPES = (int, float, complex, str, bytes, list, tuple, dict, set, frozenset)
SAFE_ATTRIBUTES = frozenset(
    name for cls in _PLAIN_TYPES for name in dir(cls) if not name.startswith("_") and not name.startswith("format")
) - {"clear", "copy"}
"""Names of the methods of plain data: harmless on whatever has them, so they are read without a guard. (`Event.clear`
and `UserDict.copy`, read from their classes, would set attributes on whatever they are given.)"""

READABLE_DUNDERS = frozenset(
    {
        "__name__",
        "__qualname__",
        "__doc__",
        "__class__",
        "__dict__",
        "__cause__",
        "__context__",
        "__notes__",
        "__init__",
        "__members__",
    }
)
"""Attributes that `reads.read_special` answers for, each in its own safe way."""

SUPER_METHODS = frozenset(
    f"__{name}__"
    for name in [
        "init",
        "post_init",
        "init_subclass",
        "new",
        "repr",
        "str",
        "eq",
        "ne",
        "lt",
        "le",
        "gt",
        "ge",
        "hash",
        "bool",
        "len",
        "contains",
        "iter",
        "next",
        "reversed",
        "getitem",
        "setitem",
        "delitem",
        "missing",
        "call",
        "enter",
        "exit",
        "aenter",
        "aexit",
        "aiter",
        "anext",
        "await",
        "add",
        "radd",
        "sub",
        "mul",
        "truediv",
        "floordiv",
        "mod",
        "pow",
        "neg",
        "abs",
        "and",
        "or",
        "xor",
        "format",
        "set_name",
    ]
)
"""Special methods that an agent's class may define and reach through `super()`."""

METHODS = SUPER_METHODS | frozenset(
    f"__{name}__"
    for name in [
        "iadd",
        "isub",
        "imul",
        "itruediv",
        "ifloordiv",
        "imod",
        "ipow",
        "iand",
        "ior",
        "ixor",
        "ilshift",
        "irshift",
        "rsub",
        "rmul",
        "rtruediv",
        "rfloordiv",
        "rmod",
        "rpow",
        "rand",
        "ror",
        "rxor",
        "lshift",
        "rshift",
        "rlshift",
        "rrshift",
        "matmul",
        "rmatmul",
        "imatmul",
        "divmod",
        "rdivmod",
        "pos",
        "invert",
        "int",
        "float",
        "complex",
        "index",
        "round",
        "trunc",
        "floor",
        "ceil",
        "bytes",
        "length_hint",
        "getattr",
        "setattr",
        "delattr",
        "dir",
        "get",
        "set",
        "delete",
        "class_getitem",
        "copy",
        "deepcopy",
    ]
)
"""Special methods that an agent's class may define."""

CLASS_VARIABLES = frozenset({"__slots__", "__hash__", "__match_args__", "__doc__"})
"""Special names that may be assigned in the body of a class."""


def is_special(name: str) -> bool:
    """Whether a name has the shape `_x_` of guards or `__x` of Python's own, rather than `_`, `__` or `_x`.

    Or makes a class a future for asyncio, which would hand its callbacks to it.
    """
    if name == "_asyncio_future_blocking":
        return True
    return bool(name.strip("_")) and name.startswith("_") and (name.endswith("_") or name.startswith("__"))


def attribute_error(name: str) -> str | None:
    """Why no attribute of this name may be used on anything; None where it depends on the object."""
    if name in FORBIDDEN_ATTRIBUTES:
        return f'the attribute "{name}" leads to the interpreter\'s insides and is not available'
    if is_special(name) and name not in READABLE_DUNDERS:
        return f'the attribute "{name}" is not available: it starts with two underscores or is reserved'
    return None


def temporary(number: int) -> str:
    """The name of a variable that a compiled cell uses for itself."""
    return f"{_TEMPORARY}{number}_"


def is_temporary(name: str) -> bool:
    """Whether a compiled cell uses this variable for itself."""
    return name.startswith(_TEMPORARY)
