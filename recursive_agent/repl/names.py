"""Which names the agent's code may use. One set of rules, for names in the source and for names given to `getattr`."""

from __future__ import annotations

from RestrictedPython.transformer import INSPECT_ATTRIBUTES

GET, WRITE, CLASS, EXIT, CHECK, ECHO = "_getattr_", "_write_", "_class_", "_exit_", "_check_", "_echo_"
"""Variables that compiled cells use; the agent's code can neither read nor bind a name of this shape."""

FORBIDDEN_ATTRIBUTES = frozenset(INSPECT_ATTRIBUTES) | {
    # frames, code and tracebacks, whatever the version of Python
    *("tb_frame", "tb_next", "f_back", "f_builtins", "f_code", "f_generator", "f_globals", "f_locals", "f_trace"),
    *("gi_frame", "gi_code", "gi_yieldfrom", "cr_frame", "cr_code", "cr_await", "cr_origin"),
    *("ag_frame", "ag_code", "ag_await", "co_code", "co_consts", "co_names", "func_globals", "func_code"),
    # asyncio's objects lead to the loop and to frames
    *("get_loop", "get_stack", "print_stack", "get_coro", "get_context"),
    "mro",
}
GUARDED_ATTRIBUTES = frozenset({"format", "format_map", "obj", "register"})
"""Harmless on most objects and a way out on some: looked up by `guards.guarded_getattr`, which knows which."""

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
    }
)
"""Attributes that `guards.guarded_getattr` answers for, each in its own safe way."""

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
    """Whether a name has the shape `_x_` of guards or `__x` of Python's own, rather than `_`, `__` or `_x`."""
    return bool(name.strip("_")) and name.startswith("_") and (name.endswith("_") or name.startswith("__"))


def attribute_error(name: str) -> str | None:
    """Why no attribute of this name may be used on anything; None where it may, perhaps guarded."""
    if name in FORBIDDEN_ATTRIBUTES:
        return f'the attribute "{name}" leads to the interpreter\'s insides and is not available'
    if is_special(name) and name not in READABLE_DUNDERS:
        return f'the attribute "{name}" is not available: it starts with two underscores or is reserved'
    return None


def is_guarded(name: str) -> bool:
    """Whether an allowed attribute must be looked up by `guards.guarded_getattr`."""
    return name.startswith("_") or name in GUARDED_ATTRIBUTES
