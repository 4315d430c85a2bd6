"""Starts a program in namespaces of its own, where there is no bubblewrap: `python -I -S wall.py [OPTIONS] -- PROGRAM`.

`--show PATH` makes a file or folder visible, read-only; `--hide PATH` puts an empty folder in the place of one that is shown.
Nothing else of the machine's files is there, and no other process, network or IPC object. Root needs CAP_SYS_ADMIN, everybody
else the right to make user namespaces. It imports nothing of this package, for it runs as a program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    *(0x00020000, 0x04000000, 0x08000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
_NOSUID, _NODEV, _NOEXEC, _BIND, _REC, _PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
_DETACH = 2
_SYS_MOUNT_SETATTR, _AT_RECURSIVE = 442, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP = 1, 24
_CAP_SETGID, _CAP_SETUID, _LAST_CAP = 6, 7, 63
_SCRATCH = ("/tmp", "/run", "/mnt", "/var")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.mount.argtypes = (*(ctypes.c_char_p,) * 3, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)


def _check(result: int, what: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    options = None if data is None else data.encode()
    result = _libc.mount(source.encode(), target.encode(), None if kind is None else kind.encode(), flags, options)
    _check(result, f"mount {target}")


def _read_only(path: str, *, recursive: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    call = (ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(-100), path.encode(), ctypes.c_uint(flags))
    _check(_libc.syscall(*call, attributes, ctypes.c_size_t(32)), f"make {path} read-only")


def _pivot(new: str, old: str) -> None:
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(ctypes.c_long(number), new.encode(), old.encode()), "pivot_root")


def leave(user: bool) -> None:
    """Leave the machine's namespaces; as another user than root in a user namespace of one's own."""
    uid, gid = os.getuid(), os.getgid()
    if user:
        _check(_libc.unshare(_NEWUSER), "user namespaces are refused")
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
                file.write(text)
    _check(_libc.unshare(_NEWNS | _NEWPID | _NEWIPC | _NEWUTS | _NEWNET), "namespaces are refused")


def furnish(show: list[str], hide: list[str]) -> None:
    """Put a root in place that holds what is to be shown, and proc. In the first process of the namespace."""
    _mount("none", "/", None, _REC | _PRIVATE)
    scratch = next(place for place in _SCRATCH if os.path.isdir(place))  # noqa: PTH112
    _mount("tmpfs", scratch, "tmpfs", _NOSUID | _NODEV, "mode=0755")
    os.mkdir(f"{scratch}/old")  # noqa: PTH102
    _pivot(scratch, f"{scratch}/old")
    os.chdir("/")
    os.mkdir("/new")  # noqa: PTH102
    _mount("tmpfs", "/new", "tmpfs", _NOSUID | _NODEV, "mode=0755")
    hidden = [place for place in show if any(place.startswith(f"{folder}/") for folder in hide)]
    for place in show:
        if place not in hidden:
            _show(place)
    for folder in hide:
        _mount("tmpfs", f"/new{folder}", "tmpfs", _NOSUID | _NODEV, "mode=0755")
    for place in hidden:
        _show(place)
    os.makedirs("/new/proc", exist_ok=True)  # noqa: PTH103
    _mount("proc", "/new/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for folder in (*hide, "/"):
        _read_only(f"/new{folder}", recursive=False)
    os.chdir("/new")
    _pivot(".", ".")
    _check(_libc.umount2(b".", _DETACH), "umount")
    os.chdir("/")


def _show(place: str) -> None:
    source, target = f"/old{place}", f"/new{place}"
    if not os.path.exists(source):  # noqa: PTH110
        return
    if os.path.isdir(source):  # noqa: PTH112
        os.makedirs(target, exist_ok=True)  # noqa: PTH103
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    _mount(source, target, None, _BIND | _REC)
    _read_only(target, recursive=True)


def drop_capabilities() -> None:
    """Keep, as root, only what it takes to become nobody."""
    for capability in range(_LAST_CAP + 1):
        if capability not in (_CAP_SETGID, _CAP_SETUID):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


def main(arguments: list[str]) -> int:
    """Run the program; its exit status, or 125 where there is no such wall."""
    split = arguments.index("--")
    options, command = arguments[:split], arguments[split + 1 :]
    pairs = list(zip(options[::2], options[1::2], strict=True))
    show = [value for name, value in pairs if name == "--show"]
    hide = [value for name, value in pairs if name == "--hide"]
    leave(user=os.geteuid() != 0)
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) & 0xFF
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        socket.sethostname("sandbox")
        furnish(show, hide)
        if os.geteuid() == 0:
            drop_capabilities()
        os.execve(command[0], command, dict(os.environ))
    except BaseException as error:
        print(f"{error}", file=sys.stderr, flush=True)
    os._exit(125)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        sys.exit(str(error))
