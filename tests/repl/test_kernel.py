"""The seccomp filter, interpreted here for both machines: what it allows is the list and nothing else."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recursive_agent.repl import kernel
from recursive_agent.repl.bpf import ALLOW, KILL, Assembler, refusing
from recursive_agent.repl.kernel import seccomp_program
from recursive_agent.repl.syscalls import ALLOWED, MACHINES, Machine

EPERM = 0x00050000 | 1
HIGH = 1 << 32

# For each call with conditions: arguments that must pass, and arguments that must not.
CASES: dict[str, tuple[list[tuple[int, ...]], list[tuple[int, ...]]]] = {
    "mmap": (
        [(0, 4096, 3, 0x22, HIGH - 1, 0), (0, 9, 1, 0x8001, 5, 0), (0, 9, 0, 0x4022), (0, 9, 3, 0x20022)],
        [
            *((0, 4096, prot, 0x22) for prot in (4, 5, 6, 7, 8, 0x01000000, HIGH | 1)),
            *((0, 4096, 3, flags) for flags in (0x21, 0x32, 0x2022, 0x40022, 0x8022, 0x122, 0x100022, HIGH | 0x22, 0)),
            *((hint, 4096, 3, 0x22) for hint in (1, 4096, HIGH, 1 << 40)),
        ],
    ),
    "mprotect": ([(1, 1, 0), (1, 1, 1), (1, 1, 3)], [(1, 1, 4), (1, 1, 7), (1, 1, 0x01000001), (1, 1, HIGH)]),
    "mremap": ([(1, 1, 1, 0), (1, 1, 1, 1)], [(1, 1, 1, 2), (1, 1, 1, 3), (1, 1, 1, 4), (1, 1, 1, HIGH)]),
    "madvise": ([(1, 1, 4), (1, 1, 8)], [(1, 1, advice) for advice in (0, 9, 10, 11, 12, 14, 16, 21, 23, 25, 100)]),
    "futex": (
        [(1, op) for op in (128, 129, 137, 138, 384, 393)],
        [
            *((1, op) for op in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13)),
            *((1, op | 128) for op in (2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 512)),
        ],
    ),
    "prlimit64": (
        [(0, 0), (0, 9)],
        [(1, 9), (HIGH - 1, 9), *((0, which) for which in (1, 2, 3, 4, 5, 6, 7, 8, 10, 15))],
    ),
    "sendto": (
        [(3, 1, 1, 0, 0, 0), (3, 1, 1, 0x4040, 0, 0)],
        [
            (3, 1, 1, 0, 1, 16),
            (3, 1, 1, 0, HIGH, 16),
            *((3, 1, 1, flag, 0) for flag in (1, 2, 4, 0x20000000, 0x4000000)),
        ],
    ),
    "recvfrom": ([(3, 1, 1, 0), (3, 1, 1, 0x40)], [(3, 1, 1, 1), (3, 1, 1, 2), (3, 1, 1, 0x2000)]),
    "recvmsg": ([(3, 1, 0), (3, 1, 0x40000000)], [(3, 1, 1), (3, 1, 2), (3, 1, 0x2000)]),
    "poll": ([(1, 1, 0)], [(1, 17, 0), (1, HIGH - 1, 0)]),
    "ppoll": ([(1, 1, 0)], [(1, 17, 0)]),
    "epoll_wait": ([(4, 1, 1023, 0)], [(4, 1, 1025, 0), (4, 1, HIGH - 1, 0)]),
    "epoll_pwait": ([(4, 1, 1023, 0)], [(4, 1, 1025, 0)]),
    "epoll_ctl": ([(4, 1, 3, 1), (4, 2, 3, 1), (4, 3, 3, 1)], [(4, 0, 3, 1), (4, 4, 3, 1)]),
    "getrusage": ([(0,), (1,)], [(HIGH - 1,), (2,)]),
    "clock_gettime": ([(0,), (1,), (2,), (3,), (7,)], [(HIGH - 6,), (HIGH - 8 * 1234,), (12,)]),
    "clock_getres": ([(0,), (1,)], [(HIGH - 6,), (12,)]),
    "clock_nanosleep": ([(0,), (1,)], [(HIGH - 6,), (8,), (9,), (2,)]),
    "setitimer": ([(0,)], [(1,), (2,)]),
    "getitimer": ([(0,)], [(1,), (2,)]),
    "getrandom": ([(1, 1, 0), (1, 1, 1)], [(1, 1, 2), (1, 1, 8)]),
}


def decide(program: bytes, audit: int, number: int, *arguments: int) -> int:
    """What a filter answers to a system call, by a small interpreter of its BPF."""
    data = struct.pack("<IIQ6Q", number, audit, 0, *(*arguments, *(0,) * 6)[:6])
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, yes, no, operand = code[at]
        at += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, operand)
            case 0x06:
                return int(operand)
            case 0x15:
                at += yes if accumulator == operand else no
            case 0x25:
                at += yes if accumulator > operand else no
            case 0x35:
                at += yes if accumulator >= operand else no
            case 0x45:
                at += yes if accumulator & operand else no
            case _:
                raise AssertionError(operation)


PROGRAMS = {name: seccomp_program(machine) for name, machine in MACHINES.items()}


def answer(name: str, number: int, *arguments: int) -> int:
    return decide(PROGRAMS[name], MACHINES[name].audit, number, *arguments)


@pytest.mark.parametrize("name", MACHINES)
def test_exactly_the_list_is_allowed(name: str) -> None:
    machine = MACHINES[name]
    known = {number: call for call, number in machine.numbers.items()}
    assert len(known) == len(machine.numbers)
    for number in range(2000):
        call = known.get(number)
        good = (0,) if call is None or not ALLOWED[call] else CASES[call][0][0]
        assert answer(name, number, *good) == (EPERM if call is None else ALLOW), call or number


@pytest.mark.parametrize("name", MACHINES)
def test_arguments_decide(name: str) -> None:
    machine = MACHINES[name]
    assert set(CASES) == {call for call, checks in ALLOWED.items() if checks}, "each condition has its cases"
    for call in set(CASES) & set(machine.numbers):
        good, bad = CASES[call]
        for arguments in good:
            assert answer(name, machine.numbers[call], *arguments) == ALLOW, (call, arguments)
        for arguments in bad:
            assert answer(name, machine.numbers[call], *arguments) == EPERM, (call, arguments)


@given(st.tuples(*[st.integers(0, 2**64 - 1)] * 6), st.sampled_from(sorted(MACHINES)))
def test_no_arguments_get_executable_pages_or_the_clock_of_another(arguments: tuple[int, ...], name: str) -> None:
    numbers = MACHINES[name].numbers
    for call in ("mmap", "mprotect"):
        if arguments[2] & ~3:
            assert answer(name, numbers[call], *arguments) == EPERM
    if arguments[0] & 0x80000000:
        assert answer(name, numbers["clock_gettime"], *arguments) == EPERM
    if arguments[0] & 0xFFFFFFFF:
        assert answer(name, numbers["prlimit64"], *arguments) == EPERM
    if arguments[4]:
        assert answer(name, numbers["sendto"], *arguments) == EPERM


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_another_architecture_is_killed_whatever_it_calls(audit: int, number: int) -> None:
    for name, machine in MACHINES.items():
        if audit != machine.audit:
            assert decide(PROGRAMS[name], audit, number) == KILL


@given(st.integers(0x40000000, 2**32 - 1))
def test_x32_is_killed(number: int) -> None:
    assert answer("x86_64", number) == KILL


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_that_opens_creates_or_signals_is_on_the_list(name: str) -> None:
    dangerous = {"open", "openat", "socket", "connect", "bind", "clone", "fork", "execve", "kill", "tgkill", "prctl"}
    dangerous |= {"ptrace", "ioctl", "fcntl", "dup", "memfd_create", "stat", "newfstatat", "process_vm_readv", "bpf"}
    dangerous |= {
        "sendmsg",
        "sendmmsg",
        "recvmmsg",
        "setsockopt",
        "pidfd_send_signal",
        "rt_sigqueueinfo",
        "timer_create",
    }
    assert not dangerous & set(MACHINES[name].numbers)


def test_every_call_of_the_list_exists_on_x86_and_all_but_the_old_ones_on_arm() -> None:
    assert set(MACHINES["x86_64"].numbers) == set(ALLOWED)
    assert set(ALLOWED) - set(MACHINES["aarch64"].numbers) == {"poll", "epoll_wait", "time"}


def test_jumps_that_classic_bpf_cannot_make_are_refused_as_the_program_is_written() -> None:
    far = Assembler()
    far.jump(0x15, 1, yes="end")
    for _ in range(300):
        far.load(0)
    far.label("end")
    back = Assembler()
    back.label("begin")
    back.jump(0x15, 1, yes="begin")
    nowhere = Assembler()
    nowhere.jump(0x15, 1, yes="missing")
    for code in (far, back, nowhere):
        with pytest.raises(ValueError, match="out of reach"):
            code.program()
    with pytest.raises(ValueError, match="two labels"):
        back.label("begin")


def test_a_filter_that_refuses_some_calls_allows_the_others() -> None:
    machine: Machine = MACHINES["x86_64"]
    program = refusing(machine.audit, {317: 38, 444: 1})
    assert [decide(program, machine.audit, number) for number in (0, 317, 444)] == [ALLOW, 0x50026, 0x50001]


def test_a_refusal_says_what_is_missing_what_to_do_and_how_to_allow_it() -> None:
    said = kernel.refusal({"seccomp", "landlock"})
    assert "landlock, seccomp" in said
    for part in ("5.13", "container", "require=None", "--require none"):
        assert part in said
