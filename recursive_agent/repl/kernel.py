"""The boundary: locks a worker with the layers of the kernel, and tests whether each of them holds.

Everything here works without privileges and without user namespaces. Each layer is probed after it was asked for; a layer
counts as enforced only when the probe was refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterable

from .bpf import allow_list
from .syscalls import ALLOWED, MACHINES, Machine

KERNEL_LAYERS = frozenset({"rlimits", "no_new_privs", "pdeathsig", "landlock", "seccomp"})
NOBODY = 65534
MOST_DESCRIPTORS = 256
"""Descriptors a worker may have: a few of its own, and for a moment those of the host's large strings."""
WORKER_OOM_SCORE, ZYGOTE_OOM_SCORE = 1000, 500
"""Where memory runs out the kernel kills a worker first, then a zygote, and the host last."""

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_DUMPABLE = 1, 2, 4
_PR_SET_NO_NEW_PRIVS, _PR_GET_NO_NEW_PRIVS = 38, 39
_PR_SET_THP_DISABLE = 41
_SECCOMP_SET_MODE_FILTER = 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_libc.syscall.restype = ctypes.c_long
_syscall = _libc.syscall


def _prctl(option: int, argument: int = 0) -> int:
    result: int = _libc.prctl(option, argument, 0, 0, 0)
    return result


# -- privileges ------------------------------------------------------------------------------------------------------


_CAPABILITIES = {6: "SETGID", 7: "SETUID"}


def why_root_cannot_start() -> str | None:
    """Why this process, which is root, cannot become nobody for its workers, and what to do; None where it can."""
    if os.geteuid() != 0:
        return None
    held = next((int(line[7:], 16) for line in _lines("/proc/self/status") if line.startswith("CapEff:")), -1)
    lacking = [name for bit, name in _CAPABILITIES.items() if not held >> bit & 1]
    advice = "Run it as an ordinary user (USER in a Dockerfile, docker run --user 1000)"
    if lacking:
        options = " ".join(f"--cap-add {name}" for name in sorted(lacking))
        return (
            "Agents' code must not run as root, and this process is root without the capability to become another user "
            f"({', '.join(f'CAP_{name}' for name in sorted(lacking))}). {advice}, or give it the capabilities "
            f"(docker run {options})."
        )
    mapped = all(_maps_nobody(f"/proc/self/{kind}_map") for kind in ("uid", "gid"))
    if not mapped or "deny" in _lines("/proc/self/setgroups"):
        return (
            f"Agents' code must not run as root, and in this user namespace root cannot become user {NOBODY}. {advice}, "
            f"or map the ids 0 to {NOBODY} into the namespace."
        )
    return None


def _maps_nobody(path: str) -> bool:
    ranges = [tuple(map(int, line.split())) for line in _lines(path)]
    return not ranges or any(first <= NOBODY < first + count for first, _, count in ranges)


def _lines(path: str) -> list[str]:
    try:
        with open(path) as file:  # noqa: PTH123 - pathlib is not for a worker
            return file.read().splitlines()
    except OSError:
        return []


def drop_privileges() -> None:
    """Become nobody where the worker would otherwise be root (whom RLIMIT_NPROC and file modes do not bind).

    Raises PermissionError.
    """
    if os.geteuid() == 0:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except OSError as error:
            raise PermissionError(why_root_cannot_start() or f"root cannot become user {NOBODY}: {error}") from error


def offer_to_oom_killer(score: int) -> None:
    """Where memory runs out, let the kernel kill this process before others. Needs no privilege, but open files.

    Before `drop_privileges`, after which the file is another user's.
    """
    with contextlib.suppress(OSError, ValueError):  # without /proc, the kernel goes by size alone
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            if int(os.read(fd, 16)) < score:
                os.pwrite(fd, str(score).encode(), 0)
        finally:
            os.close(fd)


def die_with(parent: int) -> bool:
    """Ask for SIGKILL when `parent`, the zygote, ends. After `drop_privileges`, which would clear it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_DUMPABLE, 0)
    number = ctypes.c_int()
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.addressof(number), 0, 0, 0)
    return number.value == signal.SIGKILL and os.getppid() == parent


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
    (resource.RLIMIT_NOFILE, MOST_DESCRIPTORS),
)


def fixed_limits() -> bool:
    """Limits that never change in a worker's life: no core, no file, no process, no locked memory, no queue, no huge page.

    (Of a huge page that is unmapped but for a corner, the rest stays taken and counts nowhere.)
    """
    _prctl(_PR_SET_THP_DISABLE, 1)
    for which, value in _FIXED_LIMITS:
        _, hard = resource.getrlimit(which)
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)  # the user may have set a lower one
        resource.setrlimit(which, (least, least))
    return all(_at_most(value, *resource.getrlimit(which)) for which, value in _FIXED_LIMITS)


def _at_most(value: int, soft: int, hard: int) -> bool:
    return 0 <= soft == hard <= value


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


def seccomp_program(machine: Machine) -> bytes:
    """The filter: kill a foreign architecture and x32, allow the list, refuse everything else with EPERM."""
    allowed = {machine.numbers[name]: checks for name, checks in ALLOWED.items() if name in machine.numbers}
    return allow_list(machine.audit, allowed, killed_from=machine.x32_bit)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def seccomp(machine: Machine, program: bytes) -> bool:
    """Install the filter, for good. True when a call off the list is then refused."""
    filter_program = _Program(len(program) // 8, program)
    if _syscall(ctypes.c_long(machine.seccomp), _SECCOMP_SET_MODE_FILTER, 0, ctypes.byref(filter_program)) != 0:
        return False
    try:
        os.close(os.dup(0))
    except OSError as error:
        return error.errno == errno.EPERM
    return False


# -- all of them -----------------------------------------------------------------------------------------------------

_MACHINE = MACHINES.get(os.uname().machine)


@functools.cache
def own_program() -> bytes:
    """The filter for this machine. The zygote makes it once for all workers; the host needs none."""
    return b"" if _MACHINE is None else seccomp_program(_MACHINE)


def lock_down(parent: int) -> list[str]:
    """Lock the calling process, for good; the layers that hold. Only for a freshly forked, single-threaded worker."""
    offer_to_oom_killer(WORKER_OOM_SCORE)
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
        if seccomp(_MACHINE, own_program()):
            layers.append("seccomp")
    return layers


# -- what to say where they do not hold --------------------------------------------------------------------------------

_ADVICE = {
    "landlock": "Landlock needs Linux 5.13 or newer with landlock in its lsm= list, and a container profile that allows it",
    "seccomp": "seccomp needs a kernel built with it, on x86-64 or arm64, and a container profile that allows it",
    "pdeathsig": "prctl(PR_SET_PDEATHSIG) is refused: use a container profile that allows it",
    "no_new_privs": "prctl(PR_SET_NO_NEW_PRIVS) is refused: use a container profile that allows it",
    "rlimits": "setrlimit is refused: use a container profile that allows it",
}


def advice(missing: Iterable[str]) -> str:
    """What each of these layers needs, in a sentence."""
    needs = [_ADVICE.get(layer, f"{layer} does not hold") for layer in sorted(missing)]
    return "; ".join(needs)


def warning(missing: Iterable[str]) -> str:
    """The warning of every run on such a machine, where it was allowed."""
    missing = sorted(missing)
    return f"agents' code is not locked in: this machine does not enforce {', '.join(missing)} ({advice(missing)})"


def refusal(missing: Iterable[str]) -> str:
    """Why no agent runs on a machine where these layers do not hold, and what to do about it."""
    missing = sorted(missing)
    return (
        f"This machine does not enforce {', '.join(missing)}, so the code that agents write could get at its files, "
        f"network or processes. To mend it: {advice(missing)}. To run all the same, only with goals, models and "
        "data that you trust: require=None (on the command line: --require none)."
    )
