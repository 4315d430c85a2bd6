"""System calls a locked worker may still make, and with which arguments. Everything else answers EPERM."""

from __future__ import annotations

import resource
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .bpf import Among, AmongLong, AtMost, Check, OnlyBits, OnlyBitsLong

_READ_WRITE = 0x1 | 0x2
"""Protections of memory; never executable."""
_SHARED, _PRIVATE, _ANONYMOUS, _NORESERVE, _POPULATE, _STACK = 0x01, 0x02, 0x20, 0x4000, 0x8000, 0x20000
_MAPPINGS = (
    _PRIVATE | _ANONYMOUS,
    _PRIVATE | _ANONYMOUS | _NORESERVE,
    _PRIVATE | _ANONYMOUS | _STACK,
    _SHARED | _POPULATE,  # a sealed file of the host
    _SHARED,
    _PRIVATE,
)
"""No shared anonymous memory: it outlives the address range that RLIMIT_AS counts. No huge or locked pages."""
_MAYMOVE = 1
_DONTNEED, _FREE = 4, 8
_FUTEX_PRIVATE, _FUTEX_REALTIME = 128, 256
_FUTEX = tuple(
    operation | _FUTEX_PRIVATE | clock
    for operation, clock in ((0, 0), (0, _FUTEX_REALTIME), (1, 0), (9, 0), (9, _FUTEX_REALTIME), (10, 0))
)
"""Wait and wake, with and without a bit set, in this process alone; no priority inheritance, no requeueing."""
_CMSG_CLOEXEC = 0x40000000
_LAST_CLOCK = 11
"""Clocks of the system and of the process itself; the clock of another process has a negative number."""

ALLOWED: Mapping[str, Sequence[Check]] = {
    # the host's socket, and the loop's own pair. No MSG_OOB, no destination; nothing that sends descriptors.
    "read": (),
    "pread64": (),  # how long the worker waited for a CPU, from the start of the file again and again
    "write": (),
    "close": (),
    "recvfrom": (OnlyBits(3, socket.MSG_DONTWAIT | socket.MSG_WAITALL | socket.MSG_NOSIGNAL),),
    "recvmsg": (OnlyBits(2, socket.MSG_DONTWAIT | _CMSG_CLOEXEC),),
    "sendto": (OnlyBits(3, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL), AmongLong(4, (0,))),
    "poll": (AtMost(1, 16),),
    "ppoll": (AtMost(1, 16),),
    "epoll_wait": (AtMost(2, 1024),),
    "epoll_pwait": (AtMost(2, 1024),),
    "epoll_ctl": (Among(1, (1, 2, 3)),),
    # memory of its own, at addresses that the kernel chooses
    "brk": (),
    "munmap": (),
    "mmap": (AmongLong(0, (0,)), OnlyBitsLong(2, _READ_WRITE), AmongLong(3, _MAPPINGS)),
    "mprotect": (OnlyBitsLong(2, _READ_WRITE),),
    "mremap": (AmongLong(3, (0, _MAYMOVE)),),
    "madvise": (Among(2, (_DONTNEED, _FREE)),),
    # itself
    "rt_sigaction": (),
    "rt_sigprocmask": (),
    "rt_sigreturn": (),
    "restart_syscall": (),
    "sigaltstack": (),
    "getpid": (),
    "gettid": (),
    "futex": (Among(1, _FUTEX),),
    "sched_yield": (),
    "getrusage": (Among(0, (0, 1)),),
    "prlimit64": (Among(0, (0,)), Among(1, (resource.RLIMIT_CPU, resource.RLIMIT_AS))),
    "exit": (),
    "exit_group": (),
    # time and chance
    "nanosleep": (),
    "clock_nanosleep": (Among(0, (0, 1)),),
    "clock_gettime": (AtMost(0, _LAST_CLOCK),),
    "clock_getres": (AtMost(0, _LAST_CLOCK),),
    "gettimeofday": (),
    "time": (),
    "setitimer": (Among(0, (0,)),),
    "getitimer": (Among(0, (0,)),),
    "getrandom": (OnlyBits(2, 0b101),),
}
"""By name, the checks that its arguments must pass."""


@dataclass(frozen=True)
class Machine:
    """One architecture: its audit number and its system-call numbers (a name that is absent does not exist there)."""

    audit: int
    numbers: dict[str, int]
    landlock_create_ruleset: int = 444
    landlock_restrict_self: int = 446
    seccomp: int = 0
    x32_bit: int | None = None


MACHINES = {
    "x86_64": Machine(
        audit=0xC000003E,
        seccomp=317,
        x32_bit=0x40000000,
        numbers={
            "read": 0,
            "write": 1,
            "close": 3,
            "poll": 7,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "pread64": 17,
            "sched_yield": 24,
            "mremap": 25,
            "madvise": 28,
            "nanosleep": 35,
            "getitimer": 36,
            "setitimer": 38,
            "getpid": 39,
            "sendto": 44,
            "recvfrom": 45,
            "recvmsg": 47,
            "exit": 60,
            "gettimeofday": 96,
            "getrusage": 98,
            "sigaltstack": 131,
            "gettid": 186,
            "time": 201,
            "futex": 202,
            "restart_syscall": 219,
            "clock_gettime": 228,
            "clock_getres": 229,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "epoll_wait": 232,
            "epoll_ctl": 233,
            "ppoll": 271,
            "epoll_pwait": 281,
            "prlimit64": 302,
            "getrandom": 318,
        },
    ),
    "aarch64": Machine(
        audit=0xC00000B7,
        seccomp=277,
        numbers={
            "epoll_ctl": 21,
            "epoll_pwait": 22,
            "close": 57,
            "read": 63,
            "write": 64,
            "pread64": 67,
            "ppoll": 73,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "nanosleep": 101,
            "getitimer": 102,
            "setitimer": 103,
            "clock_gettime": 113,
            "clock_getres": 114,
            "clock_nanosleep": 115,
            "sched_yield": 124,
            "restart_syscall": 128,
            "sigaltstack": 132,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "getrusage": 165,
            "gettimeofday": 169,
            "getpid": 172,
            "gettid": 178,
            "sendto": 206,
            "recvfrom": 207,
            "recvmsg": 212,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "mprotect": 226,
            "madvise": 233,
            "prlimit64": 261,
            "getrandom": 278,
        },
    ),
}
