"""The boundary: what the kernel is asked to refuse to a worker, and whether it really does.

Everything here works without privileges and without user namespaces. Each layer is probed after it was asked for; a layer
counts as enforced only when the probe was refused.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import socket
import struct

from .syscalls import FREE, MACHINES, NOT_EXECUTABLE, OWN_LIMITS, Machine

KERNEL_LAYERS = frozenset({"rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp"})
NOBODY = 65534

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 2, 4
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_SECCOMP_SET_MODE_FILTER = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.syscall.restype = ctypes.c_long
_syscall = _libc.syscall


def _prctl(option: int, argument: int = 0) -> int:
    result: int = _libc.prctl(option, argument, 0, 0, 0)
    return result


# -- privileges ------------------------------------------------------------------------------------------------------


def drop_privileges() -> None:
    """Become nobody where the worker would otherwise be root (whom RLIMIT_NPROC and file modes do not bind)."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def die_with(parent: int) -> bool:
    """Ask for SIGKILL when `parent`, the zygote, ends. After `drop_privileges`, which would clear it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    wanted = ctypes.c_int()
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.addressof(wanted), 0, 0, 0)
    return wanted.value == signal.SIGKILL and os.getppid() == parent


def no_new_privileges() -> bool:
    """Give up gaining privileges through execve; seccomp and Landlock need it."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    return _prctl(_PR_GET_NO_NEW_PRIVS) == 1


# -- limits ----------------------------------------------------------------------------------------------------------

_FIXED_LIMITS = (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_NPROC, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_SIGPENDING, 64),
)


def fixed_limits() -> bool:
    """Limits that never change in a worker's life: no core, no file, no process, no locked memory, no queue."""
    for which, value in _FIXED_LIMITS:
        resource.setrlimit(which, (value, value))
    return all(resource.getrlimit(which) == (value, value) for which, value in _FIXED_LIMITS)


# -- Landlock --------------------------------------------------------------------------------------------------------


def landlock(machine: Machine) -> bool:
    """No files at all and no TCP, as far as this kernel's Landlock goes; False where it has none."""
    abi = _syscall(ctypes.c_long(machine.landlock_create_ruleset), None, ctypes.c_size_t(0), ctypes.c_uint(1))
    if abi < 1:
        return False
    files = (1 << 13) - 1  # ABI 1: execute, write, read, directories, every kind of make and remove
    for version, bit in ((2, 13), (3, 14), (5, 15)):  # rename across directories, truncate, ioctl on devices
        if abi >= version:
            files |= 1 << bit
    network = 0b11 if abi >= 4 else 0  # bind and connect TCP
    scope = 0b11 if abi >= 6 else 0  # abstract UNIX sockets and signals outside
    attribute = struct.pack("<QQQ", files, network, scope)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _syscall(
        ctypes.c_long(machine.landlock_create_ruleset), attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint(0)
    )
    if ruleset < 0:
        return False
    try:
        if _syscall(ctypes.c_long(machine.landlock_restrict_self), ctypes.c_int(ruleset), ctypes.c_uint(0)) != 0:
            return False
    finally:
        os.close(ruleset)
    return _file_refused() and (network == 0 or _connect_refused())


def _file_refused() -> bool:
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY))
    except OSError as error:
        return error.errno == errno.EACCES
    return False


def _connect_refused() -> bool:
    with socket.socket() as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except OSError as error:
            return error.errno == errno.EACCES
    return False


# -- seccomp ---------------------------------------------------------------------------------------------------------

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_PROT_EXEC = 4


def seccomp_program(machine: Machine) -> bytes:
    """The BPF filter: kill a foreign architecture, allow the list, refuse everything else with EPERM."""
    code: list[tuple[int, int, int, int]] = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JEQ, 1, 0, machine.audit),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER),
    ]
    if machine.x32_bit is not None:  # the x32 calls share the audit number of x86-64
        code += [(_JGE, 0, 1, machine.x32_bit), (_RETURN, 0, 0, _KILL)]
    for name in FREE:
        if name in machine.numbers:
            code += [(_JEQ, 0, 1, machine.numbers[name]), (_RETURN, 0, 0, _ALLOW)]
    for name in NOT_EXECUTABLE:
        code += [
            (_JEQ, 0, 4, machine.numbers[name]),
            (_LOAD, 0, 0, _ARGUMENTS + 2 * 8),
            (_JSET, 1, 0, _PROT_EXEC),
            (_RETURN, 0, 0, _ALLOW),
            (_RETURN, 0, 0, _REFUSE),
        ]
    code += [
        (_JEQ, 0, 4, machine.numbers[OWN_LIMITS]),
        (_LOAD, 0, 0, _ARGUMENTS),
        (_JEQ, 0, 1, 0),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("<HBBI", *line) for line in code)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def seccomp(machine: Machine, program: bytes) -> bool:
    """Install the filter, for good. True when a call off the list is then refused."""
    wanted = _Program(len(program) // 8, program)
    if _syscall(ctypes.c_long(machine.seccomp), _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(wanted)) != 0:
        return False
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


# -- all of them -----------------------------------------------------------------------------------------------------

_MACHINE = MACHINES.get(platform.machine())
_PROGRAM = seccomp_program(_MACHINE) if _MACHINE is not None else b""


def lock_down(parent: int) -> list[str]:
    """Lock the calling process, for good; the layers that hold. Only for a freshly forked, single-threaded worker."""
    drop_privileges()
    layers = []
    if die_with(parent):
        layers.append("pdeathsig")
    if no_new_privileges():
        layers.append("no_new_privs")
    if fixed_limits():
        layers.append("rlimits")
    if _MACHINE is not None:
        if landlock(_MACHINE):
            layers.append("landlock")
        if seccomp(_MACHINE, _PROGRAM):
            layers.append("seccomp")
    return layers
