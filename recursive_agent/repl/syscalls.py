"""System calls a locked worker may still make, by number, for each machine. Everything else answers EPERM."""

from __future__ import annotations

from dataclasses import dataclass

FREE = [
    "read",
    "write",
    "close",
    "recvfrom",
    "recvmsg",
    "sendto",
    "sendmsg",
    "poll",
    "ppoll",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "brk",
    "munmap",
    "mremap",
    "madvise",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "restart_syscall",
    "sigaltstack",
    "getpid",
    "gettid",
    "futex",
    "sched_yield",
    "nanosleep",
    "clock_nanosleep",
    "clock_gettime",
    "clock_getres",
    "gettimeofday",
    "time",
    "getrandom",
    "setitimer",
    "getitimer",
    "getrusage",
    "exit",
    "exit_group",
]
"""Calls allowed whatever their arguments: they reach only what the worker already holds."""

NOT_EXECUTABLE = ("mmap", "mprotect")
"""Allowed while the third argument (protection) does not ask for executable memory."""

OWN_LIMITS = "prlimit64"
"""Allowed on the calling process alone (first argument 0): the memory limit is on only while a cell runs."""


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
            "sched_yield": 24,
            "mremap": 25,
            "madvise": 28,
            "nanosleep": 35,
            "getitimer": 36,
            "setitimer": 38,
            "getpid": 39,
            "sendto": 44,
            "recvfrom": 45,
            "sendmsg": 46,
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
            "sendmsg": 211,
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
