"""The text of errors of decoding, in versions of Python that read memory at whatever position such an error names.

`str(UnicodeDecodeError(..., start, end, ...))` shows the byte at `start`, and some versions do not check that it is one of
the object's. An agent can make such errors, and would read any memory of its worker.
"""

from __future__ import annotations

import ctypes
from typing import Any

_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE
_WORD = ctypes.sizeof(ctypes.c_ulong)
_FLAGS_AT = 21 * _WORD  # tp_flags in PyTypeObject, which the stable ABI of Python 3 keeps in its place


def text_of(error: Any) -> str:
    """What Python says of an error whose positions are right, and of one whose positions are not."""
    data: Any = error.object
    if data is None:  # it was never initialised
        return ""
    start, end = error.start, error.end
    if 0 <= start < len(data) and end == start + 1:
        return f"'{error.encoding}' codec can't decode byte 0x{data[start]:02x} in position {start}: {error.reason}"
    return f"'{error.encoding}' codec can't decode bytes in position {start}-{end - 1}: {error.reason}"


def reads_outside() -> bool:
    """Whether this Python reads the byte before the first, which is one of the object's header."""
    return "byte 0x" in str(UnicodeDecodeError("utf-8", b"x", -1, 0, ""))


def check_positions() -> None:
    """Have errors of decoding check their positions in this process, for good, where this Python does not."""
    if not reads_outside():
        return
    cls: Any = UnicodeDecodeError
    flags = ctypes.c_ulong.from_address(id(cls) + _FLAGS_AT)
    if flags.value != cls.__flags__:
        raise RuntimeError(
            "the layout of classes in this Python is not known: use a version with a safe UnicodeDecodeError"
        )
    flags.value &= ~_IMMUTABLE
    try:
        cls.__str__ = text_of
    finally:
        flags.value |= _IMMUTABLE
