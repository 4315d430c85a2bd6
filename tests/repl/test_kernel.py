"""The seccomp filter, interpreted here for both machines: what it allows is the list and nothing else."""

from __future__ import annotations

import struct

import pytest

from recursive_agent.repl.kernel import seccomp_program
from recursive_agent.repl.syscalls import FREE, MACHINES, NOT_EXECUTABLE, OWN_LIMITS, Machine

ALLOW, KILL = 0x7FFF0000, 0x80000000


def decide(machine: Machine, number: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter answers to a system call, by a small interpreter of its BPF."""
    data = struct.pack("<IIQ6Q", number, machine.audit if audit is None else audit, 0, *(*arguments, *(0,) * 6)[:6])
    program = seccomp_program(machine)
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
            case 0x35:
                at += yes if accumulator >= operand else no
            case 0x45:
                at += yes if accumulator & operand else no
            case _:
                raise AssertionError(operation)


@pytest.mark.parametrize("name", MACHINES)
def test_exactly_the_list_is_allowed(name: str) -> None:
    machine = MACHINES[name]
    allowed = {number for number in range(600) if decide(machine, number) == ALLOW}
    assert allowed == {
        machine.numbers[call] for call in (*FREE, *NOT_EXECUTABLE, OWN_LIMITS) if call in machine.numbers
    }


@pytest.mark.parametrize("name", MACHINES)
def test_arguments_decide_on_executable_memory_and_on_whose_limits(name: str) -> None:
    machine = MACHINES[name]
    for call in NOT_EXECUTABLE:
        assert decide(machine, machine.numbers[call], 0, 0, 3) == ALLOW
        assert decide(machine, machine.numbers[call], 0, 0, 7) != ALLOW
    assert decide(machine, machine.numbers[OWN_LIMITS], 0) == ALLOW
    assert decide(machine, machine.numbers[OWN_LIMITS], 1) != ALLOW


def test_foreign_architectures_and_x32_are_killed() -> None:
    machine = MACHINES["x86_64"]
    assert decide(machine, machine.numbers["read"], audit=0x40000003) == KILL
    assert decide(machine, 0x40000000 + machine.numbers["read"]) == KILL
    assert decide(MACHINES["aarch64"], 63, audit=machine.audit) == KILL


@pytest.mark.parametrize("name", MACHINES)
def test_nothing_that_opens_creates_or_signals_is_on_the_list(name: str) -> None:
    dangerous = {"open", "openat", "socket", "connect", "bind", "clone", "fork", "execve", "kill", "tgkill", "prctl"}
    dangerous |= {"ptrace", "ioctl", "fcntl", "dup", "memfd_create", "stat", "newfstatat", "process_vm_readv", "bpf"}
    assert not dangerous & set(MACHINES[name].numbers)
