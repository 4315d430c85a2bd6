# ruff: noqa: E501 (the code of a cell stands on one line)
"""Plain Python in a locked worker asks the kernel for everything it should not have."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from recursive_agent.repl import ProcessSandbox

from .conftest import Attack, Canaries, attacks_on

# Each runs as plain Python; `sc` makes a raw system call and raises OSError; REACHED is printed when nothing stopped it.
PRELUDE = """
import ctypes, os, sys, socket
FILE, PORT, VICTIM = {file!r}, {port}, {pid}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def sc(number, *arguments):
    r = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    if r < 0: raise OSError(ctypes.get_errno(), "refused")
    return r
def attack():
{code}
try:
    attack()
except (OSError, ImportError, MemoryError, ValueError, RuntimeError) as e:
    print("STOPPED", type(e).__name__, e)
else:
    print("REACHED")
"""

ATTACKS = {
    # files
    "open_passwd": "print(open('/etc/passwd').read())",
    "open_canary": "print(open(FILE).read())",
    "open_relative": "os.open('.', os.O_RDONLY)",
    "open_path_only": "os.open('/', 0o10000000)",
    "openat2": "sc(437, -100, b'/etc/passwd', ctypes.create_string_buffer(24), 24)",
    "creat": "sc(85, FILE.encode() + b'.x', 0o777)",
    "write_canary": "open(FILE, 'w').write('x')",
    "append_canary": "open(FILE, 'a').write('x')",
    "truncate_canary": "os.truncate(FILE, 0)",
    "unlink_canary": "os.unlink(FILE)",
    "rename_canary": "os.rename(FILE, FILE + '.x')",
    "link_canary": "os.link(FILE, FILE + '.x')",
    "symlink": "os.symlink(FILE, FILE + '.x')",
    "mkdir": "os.mkdir(FILE + '.d')",
    "rmdir": "os.rmdir(os.path.dirname(FILE))",
    "mknod": "os.mkfifo(FILE + '.f')",
    "chmod_canary": "os.chmod(FILE, 0)",
    "chown_canary": "os.chown(FILE, 0, 0)",
    "utime_canary": "os.utime(FILE, (1, 1))",
    "setxattr_canary": "os.setxattr(FILE, 'user.x', b'1')",
    "listdir": "print(os.listdir('/'))",
    "stat_canary": "os.stat(FILE)",
    "access": "sc(21, b'/etc/passwd', 0)",
    "readlink": "os.readlink('/proc/self/exe')",
    "chdir": "os.chdir('/tmp')",
    "chroot": "os.chroot('/tmp')",
    "getcwd": "os.getcwd()",
    "name_to_handle": "sc(303, -100, b'/', ctypes.create_string_buffer(64), ctypes.create_string_buffer(8), 0)",
    "inotify": "sc(294, 0)",
    "fanotify": "sc(300, 0, 0)",
    # other processes
    "proc_host_environ": "print(open(f'/proc/{VICTIM}/environ', 'rb').read())",
    "proc_1_environ": "print(open('/proc/1/environ', 'rb').read())",
    "proc_self_mem": "open('/proc/self/mem', 'rb')",
    "proc_self_maps": "print(open('/proc/self/maps').read())",
    "kill_victim": "os.kill(VICTIM, 9)",
    "kill_parent": "os.kill(os.getppid(), 9)",
    "kill_everybody": "sc(62, -1, 9)",
    "tgkill": "sc(234, VICTIM, VICTIM, 9)",
    "pidfd_open": "os.pidfd_open(VICTIM)",
    "pidfd_getfd": "sc(438, 0, 0, 0)",
    "ptrace_attach": "sc(101, 16, VICTIM, 0, 0)",
    "ptrace_traceme": "sc(101, 0, 0, 0, 0)",
    "process_vm_readv": "sc(310, VICTIM, ctypes.create_string_buffer(16), 1, ctypes.create_string_buffer(16), 1, 0)",
    "process_vm_writev": "sc(311, VICTIM, ctypes.create_string_buffer(16), 1, ctypes.create_string_buffer(16), 1, 0)",
    "kcmp": "sc(312, VICTIM, VICTIM, 0, 0, 0)",
    "priority": "os.setpriority(os.PRIO_PROCESS, VICTIM, 19)",
    "scheduler": "os.sched_setaffinity(VICTIM, {0})",
    "foreign_limits": "sc(302, VICTIM, 7, 0, ctypes.create_string_buffer(16))",
    # new processes and programs
    "fork": "os.fork() or os._exit(0)",
    "vfork": "sc(58)",
    "clone": "sc(56, 17, 0, 0, 0, 0)",
    "clone3": "sc(435, ctypes.create_string_buffer(64), 64)",
    "thread": "import _thread; _thread.start_new_thread(print, ())",
    "system": "if os.system('true') != 0: raise OSError('no shell')",
    "execve": "os.execv('/bin/true', ['true'])",
    "execveat": "sc(322, -100, b'/bin/true', 0, 0, 0)",
    "memfd": "os.memfd_create('x')",
    "memfd_exec": "fd = os.memfd_create('x'); os.write(fd, b'#!/bin/sh\\n'); os.execv(f'/proc/self/fd/{fd}', ['x'])",
    "memfd_secret": "sc(447, 0)",
    "executable_memory": "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "make_executable": "import mmap; m = mmap.mmap(-1, 4096); a = ctypes.addressof(ctypes.c_char.from_buffer(m)); sc(10, a, 4096, 7)",
    "pkey_mprotect": "import mmap; m = mmap.mmap(-1, 4096); a = ctypes.addressof(ctypes.c_char.from_buffer(m)); sc(329, a, 4096, 7, -1)",
    "personality": "sc(135, 0x0400000)",
    # network and channels
    "connect": "socket.create_connection(('127.0.0.1', PORT))",
    "socket_inet": "socket.socket()",
    "socket_udp": "socket.socket(type=socket.SOCK_DGRAM)",
    "socket_unix": "socket.socket(socket.AF_UNIX)",
    "socket_netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "socket_raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "socket_vsock": "sc(41, 40, 1, 0)",
    "socket_alg": "sc(41, 38, 5, 0)",
    "socketpair": "socket.socketpair()",
    "connect_own_socket": "sc(42, 3, ctypes.create_string_buffer(b'\\x02\\x00', 16), 16)",
    "bind_own_socket": "sc(49, 3, ctypes.create_string_buffer(b'\\x01\\x00', 16), 2)",
    "dns": "socket.getaddrinfo('localhost', 80)",
    "pipe": "os.pipe()",
    "dup": "os.dup(3)",
    "shmget": "sc(29, 0, 4096, 0o1777)",
    "msgget": "sc(68, 0, 0o1777)",
    "semget": "sc(64, 0, 1, 0o1777)",
    "mq_open": "sc(240, b'x', 0o102, 0o777, 0)",
    "fcntl_owner": "import fcntl; fcntl.fcntl(3, 8, VICTIM)",
    "ioctl": "sc(16, 3, 0x541B, ctypes.create_string_buffer(8))",
    "tiocsti": "sc(16, 0, 0x5412, ctypes.create_string_buffer(b'x'))",
    # the machine
    "mount": "sc(165, b'none', b'/tmp', b'tmpfs', 0, 0)",
    "umount": "sc(166, b'/tmp', 0)",
    "fsopen": "sc(430, b'tmpfs', 0)",
    "pivot_root": "sc(155, b'/', b'/')",
    "unshare_user": "sc(272, 0x10000000)",
    "setns": "sc(308, 3, 0)",
    "bpf": "sc(321, 0, ctypes.create_string_buffer(72), 72)",
    "perf_event": "sc(298, ctypes.create_string_buffer(128), 0, -1, -1, 0)",
    "io_uring": "sc(425, 8, ctypes.create_string_buffer(120))",
    "aio": "sc(206, 8, ctypes.create_string_buffer(8))",
    "userfaultfd": "sc(323, 0)",
    "keyctl": "sc(250, 0, -3, 0)",
    "add_key": "sc(248, b'user', b'x', b'y', 1, -3)",
    "request_key": "sc(249, b'user', b'x', 0, -3)",
    "init_module": "sc(175, b'', 0, b'')",
    "kexec": "sc(246, 0, 0, 0, 0)",
    "reboot": "sc(169, 0xfee1dead, 672274793, 0, 0)",
    "settimeofday": "import time; time.clock_settime(0, 0)",
    "sethostname": "socket.sethostname('x')",
    "swapon": "sc(167, b'/x', 0)",
    "syslog": "sc(103, 3, ctypes.create_string_buffer(16), 16)",
    "acct": "sc(163, 0)",
    "uname": "os.uname()",
    "sysinfo": "sc(99, ctypes.create_string_buffer(128))",
    # undoing the lock
    "setuid_root": "os.setuid(0)",
    "setresuid_root": "os.setresuid(0, 0, 0)",
    "setgroups": "os.setgroups([0])",
    "capset": "sc(126, ctypes.create_string_buffer(8), ctypes.create_string_buffer(24))",
    "prctl_pdeathsig": "sc(157, 1, 0, 0, 0, 0)",
    "prctl_dumpable": "sc(157, 4, 1, 0, 0, 0)",
    "prctl_subreaper": "sc(157, 36, 1, 0, 0, 0)",
    "prctl_name": "sc(157, 15, b'x', 0, 0, 0)",
    "seccomp_again": "sc(317, 1, 0, 0)",
    "seccomp_listener": "sc(317, 1, 8, 0)",
    "landlock_new": "sc(444, ctypes.create_string_buffer(8), 8, 0)",
    "arch_prctl": "sc(158, 0x1002, 0)",
    "modify_ldt": "sc(154, 1, ctypes.create_string_buffer(16), 16)",
    "raise_process_limit": "import resource; resource.setrlimit(resource.RLIMIT_NPROC, (9, 9))",
    "raise_file_limit": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))",
    "raise_memory_limit": "import resource; resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)",
    "memory_beyond_ceiling": "keep = [bytearray(1 << 20) for _ in range(1024)]",
    "new_session": "os.setsid()",
    "restart_timer_create": "sc(222, 0, 0, ctypes.create_string_buffer(8))",
    "core_dump_signal": "sc(62, os.getpid(), 6)",
}


@pytest.fixture(scope="module")
def raw() -> Iterator[Attack]:
    with attacks_on(lambda: ProcessSandbox(policy=False, require="kernel")) as attack:
        yield attack


@pytest.fixture(scope="module")
def policed() -> Iterator[Attack]:
    with attacks_on(ProcessSandbox) as attack:
        yield attack


def _script(name: str, canaries: Canaries) -> str:
    code = "\n".join("    " + line for line in ATTACKS[name].splitlines())
    return PRELUDE.format(file=str(canaries.file), port=canaries.port, pid=canaries.victim.pid, code=code)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the attacks name system calls by their x86-64 numbers")
@pytest.mark.parametrize("name", ATTACKS)
def test_the_kernel_refuses(name: str, raw: Attack, canaries: Canaries) -> None:
    result = raw(_script(name, canaries))
    assert "REACHED" not in result.output, result
    assert "STOPPED" in result.output or result.status == "killed", result
    canaries.check(result.output + (result.error or ""))


@pytest.mark.parametrize("name", ATTACKS)
def test_the_language_refuses_before_the_kernel_is_asked(name: str, policed: Attack, canaries: Canaries) -> None:
    result = policed(_script(name, canaries))
    assert result.status == "error"
    assert not result.output
    canaries.check(result.error or "")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 exists on x86-64 alone")
def test_calls_of_a_foreign_abi_kill(raw: Attack, canaries: Canaries) -> None:
    code = "import ctypes\nctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))\nprint('REACHED')"
    assert raw(code).status == "killed"


def test_a_worker_sees_neither_the_hosts_environment_nor_its_modules(raw: Attack, canaries: Canaries) -> None:
    result = raw(
        "import os, sys\nprint(dict(os.environ), sorted(m for m in sys.modules if 'agent' in m or 'pytest' in m))"
    )
    assert result.output == "{} []\n" or "LC_CTYPE" in result.output
    canaries.check(result.output)


def test_a_worker_holds_no_descriptor_but_its_own(raw: Attack) -> None:
    code = """
import os
held = []
for fd in range(256):
    try: os.read(fd, 0)
    except OSError as e:
        if e.errno == 9: continue
    held.append(fd)
print(held)
"""
    held = raw(code).output.strip("[]\n").split(", ")
    # Three of /dev/null, the host's socket, how long it has waited for a CPU, the selector and its wake-up pair.
    assert len(held) <= 8
    assert held[:4] == ["0", "1", "2", "3"]


def _ordinary_python() -> str | None:
    """A Python of this version that an ordinary user may run (this one may lie in somebody's home)."""
    for candidate in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        try:
            done = subprocess.run([candidate, "-c", ""], user=65534, group=65534, extra_groups=[], env={}, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    return None


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="these tests already run as an ordinary user")
def test_everything_holds_for_an_ordinary_user_too() -> None:
    python = _ordinary_python()
    if python is None:
        pytest.skip("no Python here that an ordinary user may run")
    repository = Path(__file__).parents[2]
    places = [str(repository), *(place for place in sys.path if place.endswith("site-packages"))]
    chosen = "refuses or foreign or descriptor or sees or nothing_away or memory or fork or spinning"
    home = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    Path(home.name).chmod(0o777)
    program = (
        f"import sys; sys.path[:0] = {places!r}\nimport pytest\n"
        f"sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--basetemp', {home.name + '/base'!r}, "
        f"'--rootdir', {str(repository)!r}, '-c', {str(repository / 'pyproject.toml')!r}, '-k', {chosen!r}, "
        f"{str(Path(__file__).parent)!r}]))"
    )
    done = subprocess.run(
        [python, "-B", "-c", program],
        user=65534,
        group=65534,
        extra_groups=[],
        env={"HOME": home.name, "PATH": os.environ["PATH"]},
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    home.cleanup()
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
