"""The `namespaces` sandbox: the `process` sandbox inside namespaces of its own.

bubblewrap makes them where it is installed and works, for distributions allow it more than others; else `wall.py` does.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Literal, NamedTuple

from ..errors import SandboxError
from .helper import ENVIRONMENT, WORKER_PACKAGES
from .host import ProcessSandbox

LAYERS = ("mount", "pid", "ipc", "uts", "net")
"""The namespaces that the helper process and its workers have for themselves."""
_SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/etc/ld.so.cache")
_HERE = Path(__file__).parent
_MOST_SECONDS = 20
_NOBODY = 1 << 30
"""A process id that no process has."""


class NamespaceSandbox(ProcessSandbox):
    """`ProcessSandbox` with a second wall: the helper process and all workers run in namespaces of their own.

    Their file system holds Python and nothing else, read-only; they have process ids, a host name, IPC and a network (with
    no interface that is up) of their own. All layers of `ProcessSandbox` hold as well. For code of strangers. Needs the
    right to make namespaces: root has it, and on most machines every user, at least through bubblewrap (`bwrap`).

    Entering raises SandboxError, which says what to do, where the machine does not allow it.
    """

    def __init__(self, *, require: Literal["kernel"] | None = "kernel", spares: int = 8, policy: bool = True) -> None:
        super().__init__(require=require, spares=spares, policy=policy)

    def _command(self, arguments: list[str]) -> list[str]:
        wall = find_wall()
        if isinstance(wall, str):
            raise SandboxError(f'The sandbox "namespaces" cannot be used on this machine: {wall}.')
        return [*wall, _python(), *arguments]

    def _pid(self, pidfd: int, reported: int) -> int:
        """The zygote reports the id inside its namespace; the kernel knows the id in ours."""
        try:
            with open(f"/proc/self/fdinfo/{pidfd}") as file:  # noqa: PTH123 - it is read for each worker
                return next((int(line[4:]) for line in file if line.startswith("Pid:")), _NOBODY)
        except OSError:  # for want of a descriptor
            return _NOBODY

    def _holding(self, layers: frozenset[str]) -> frozenset[str]:
        return super()._holding(layers) | {"namespaces"}


@functools.cache
def find_wall() -> tuple[str, ...] | str:
    """The command that runs another in namespaces of its own; or why there is none on this machine. It is tried once."""
    refusals = []
    for name, wall in (("bwrap", _bubblewrap()), ("unshare", _own())):
        if wall is None:
            continue
        refusal = _refusal(wall)
        if refusal is None:
            return tuple(wall)
        refusals.append(f"{name}: {refusal}")
    advice = "install bubblewrap (the program bwrap), or " if shutil.which("bwrap") is None else ""
    return (
        f"it is refused namespaces ({'; '.join(refusals)}). As an ordinary user, {advice}allow user namespaces (sysctl "
        "user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns). In a "
        "container, allow it to make namespaces and to mount /proc (docker run --security-opt seccomp=unconfined "
        "--security-opt systempaths=unconfined --cap-add SYS_ADMIN)"
    )


def why_unavailable() -> str | None:
    """Why there are no such namespaces on this machine, and what to do; None where there are."""
    wall = find_wall()
    return wall if isinstance(wall, str) else None


def _refusal(wall: list[str]) -> str | None:
    """The error of a wall that does not work; None for one that does."""
    probe = "import os; assert os.getpid() < 9 and len(open('/proc/self/statm').read())"
    try:
        done = subprocess.run(
            [*wall, _python(), "-I", "-S", "-c", probe],
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_MOST_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else " ".join(done.stderr.split())[-300:] or f"status {done.returncode}"


def _python() -> str:
    """The interpreter itself: a link of a virtual environment leads where the namespace has nothing."""
    return os.path.realpath(sys.executable)


def _bubblewrap() -> list[str] | None:
    """The program and its options, up to the command that it runs; None where it is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    options = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"]
    options += ["--hostname", "sandbox", "--die-with-parent", "--new-session", "--clearenv"]
    options += [option for name, value in ENVIRONMENT.items() for option in ("--setenv", name, value)]
    if os.geteuid() == 0:  # each worker becomes nobody, and nothing else of root's powers comes along
        options += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        options += ["--unshare-user"]
    files = _files()
    for place in files.shown:
        options += ["--ro-bind", place, place]
    for place in files.hidden:
        options += ["--tmpfs", place]
    for place in files.packages:
        options += ["--ro-bind", place, place]
    options += ["--proc", "/proc", "--chdir", "/"]
    for place in (*files.hidden, "/"):
        options += ["--remount-ro", place]
    return [program, *options, "--"]


def _own() -> list[str]:
    """The same by `wall.py`."""
    files = _files()
    options = [option for place in (*files.shown, *files.packages) for option in ("--show", place)]
    options += [option for place in files.hidden for option in ("--hide", place)]
    return [_python(), "-I", "-S", str(_HERE / "wall.py"), *options, "--"]


class _Files(NamedTuple):
    """What Python needs to start a worker, and no more."""

    shown: list[str]
    hidden: list[str]
    """Folders of these that hold other people's packages."""
    packages: list[str]
    """What the worker needs of packages; may lie in the hidden folders."""


@functools.cache
def _files() -> _Files:
    stdlib = Path(os.__file__).parent
    library, dynamic = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("DESTSHARED")
    shared = {str(path) for path in Path(library).glob("libpython*")} if library else set()
    places = {*_SYSTEM, str(stdlib), *([dynamic] if dynamic else ()), *shared, _python()}
    return _Files(
        sorted(
            place for place in places if Path(place).exists() and not any(_inside(place, other) for other in places)
        ),
        [str(stdlib / name) for name in ("site-packages", "dist-packages") if (stdlib / name).is_dir()],
        sorted({str(_HERE), *(place for name in WORKER_PACKAGES for place in _package(name))}),
    )


def _package(name: str) -> list[str]:
    spec = importlib.util.find_spec(name)
    return [] if spec is None else list(spec.submodule_search_locations or ())


def _inside(place: str, other: str) -> bool:
    return place != other and Path(place).is_relative_to(other)
