"""Where the kernel refuses a layer, no agent runs; where that was allowed, it is said. The refusals are real."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recursive_agent.repl.syscalls import MACHINES

REPOSITORY = Path(__file__).parents[2]
MACHINE = MACHINES.get(os.uname().machine)
CALLS = {"seccomp": MACHINE.seccomp, "landlock": MACHINE.landlock_create_ruleset} if MACHINE else {}
pytestmark = pytest.mark.skipif(MACHINE is None, reason="the machine has no seccomp filter of ours")

# Refuses system calls to itself and to all it starts, as a container's profile or an old kernel would.
WITHOUT = """
import ctypes, os, sys
from recursive_agent.repl import kernel
from recursive_agent.repl.bpf import refusing
def refuse(calls):
    machine = kernel.MACHINES[os.uname().machine]
    kernel.no_new_privileges()
    kernel.seccomp(machine, refusing(machine.audit, calls))
"""
SOLVE = """
import logging, warnings
from recursive_agent import Agent, SandboxError
from recursive_agent.testing import ScriptedEndpoint, replies
with ScriptedEndpoint(replies(["```python\\nfinish(6 * 7)\\n```"])) as endpoint:
    agent = Agent("scripted", endpoint.base_url, {settings})
    refuse({calls})
    try:
        result = agent.solve_sync("go")
        print(result.output, *result.tree.settings["enforced"])
    except SandboxError as error:
        print("SandboxError:", error)
    print(len(endpoint.ledger.entries), "calls")
"""


def python(code: str, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)]), **more}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120, check=False
    )


def solve(settings: str, calls: dict[int, int]) -> subprocess.CompletedProcess[str]:
    return python(WITHOUT + SOLVE.replace("{settings}", settings).replace("{calls}", repr(calls)))


@pytest.mark.parametrize(
    ("layer", "error", "settings"),
    [
        ("seccomp", errno.ENOSYS, ""),
        ("seccomp", errno.EPERM, "require='kernel'"),
        ("landlock", errno.ENOSYS, "sandbox='process'"),
        ("landlock", errno.EPERM, ""),
    ],
)
def test_a_missing_layer_stops_the_run_before_the_model_is_asked(layer: str, error: int, settings: str) -> None:
    done = solve(settings, {CALLS[layer]: error})
    said, calls = done.stdout.splitlines()
    assert said.startswith("SandboxError:"), done
    assert layer in said
    assert "require=None" in said
    assert "--require none" in said
    assert "container" in said
    assert calls == "0 calls"


def test_both_missing_are_both_named() -> None:
    done = solve("", {CALLS["seccomp"]: errno.ENOSYS, CALLS["landlock"]: errno.ENOSYS})
    assert "landlock, seccomp" in done.stdout


@pytest.mark.parametrize("layer", ["seccomp", "landlock"])
def test_where_it_is_allowed_the_run_goes_on_and_says_so(layer: str) -> None:
    done = solve("require=None", {CALLS[layer]: errno.ENOSYS})
    output, *enforced = done.stdout.splitlines()[0].split()
    assert output == "42", done
    assert layer not in enforced
    assert {"process", "rlimits", "policy"} <= set(enforced)
    (line,) = [line for line in done.stderr.splitlines() if "not locked in" in line]  # the logger recursive_agent
    assert layer in line


def test_on_this_machine_everything_holds_and_nothing_is_said_of_it() -> None:
    done = solve("", {})
    assert {"landlock", "seccomp"} <= set(done.stdout.splitlines()[0].split()), done
    assert "not locked in" not in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be root without capabilities")
def test_root_without_capabilities_says_why_it_cannot_start() -> None:
    drop = f"""
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
sets = (ctypes.c_uint32 * 6)()
assert libc.syscall({126 if os.uname().machine == "x86_64" else 91}, header, sets) == 0
"""
    code = drop + WITHOUT + SOLVE.replace("{settings}", "require=None").replace("refuse({calls})", "")
    done = python(code)
    assert "SandboxError:" in done.stdout, done
    for part in ("root", "CAP_SETUID", "ordinary user", "--cap-add SETUID", "--user"):
        assert part in done.stdout
    assert "0 calls" in done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="this is said of root alone")
def test_root_is_warned_of_once() -> None:
    code = """
from recursive_agent import Agent
from recursive_agent.testing import ScriptedEndpoint, by_goal
with ScriptedEndpoint(by_goal({"go": "```python\\nfinish(1)\\n```"})) as endpoint:
    for _ in range(3):
        assert Agent("scripted", endpoint.base_url).solve_sync("go").output == 1
"""
    done = python(code, PYTHONWARNINGS="error")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("root") == 1
    assert "ordinary user" in done.stderr


def rao(calls: dict[int, int], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"{WITHOUT}\nrefuse({calls})\nsys.argv = ['rao', *{list(arguments)!r}]\nfrom rao_cli.main import main\nmain()"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RAO_"))}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**env, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_rao_run_stops_and_says_what_allows_it(tmp_path: Path) -> None:
    none = {CALLS["landlock"]: errno.ENOSYS}
    refused = rao(none, "run", "--demo", "--trace-dir", "t", cwd=tmp_path)
    assert (refused.returncode != 0, refused.stdout) == (True, "")
    assert "landlock" in refused.stderr
    assert "--require none" in refused.stderr
    assert "Traceback" not in refused.stderr
    allowed = rao(none, "run", "--demo", "--trace-dir", "t", "--require", "none", cwd=tmp_path)
    assert allowed.returncode == 0, allowed.stderr
    assert "NOT LOCKED, missing landlock" in allowed.stderr
    quiet = rao(none, "run", "--demo", "--trace-dir", "t", "--require", "none", "--quiet", cwd=tmp_path)
    assert "not locked in" in quiet.stderr


def test_rao_rollout_and_eval_stop_too(tmp_path: Path) -> None:
    none = {CALLS["seccomp"]: errno.EPERM}
    for command in (["rollout", "textcraft", "--group", "1"], ["eval", "textcraft"]):
        options = [*command, "--tasks", "1", "--difficulty", "easy", "--quiet"]
        refused = rao(none, *options, cwd=tmp_path)
        assert refused.returncode != 0
        assert "--require none" in refused.stderr, refused
        assert "Traceback" not in refused.stderr
        allowed = rao(none, *options, "--require", "none", cwd=tmp_path)
        assert allowed.returncode == 0, allowed.stderr
        assert "not locked in" in allowed.stderr


def test_the_doctor_says_what_is_missing(tmp_path: Path) -> None:
    done = rao({CALLS["landlock"]: errno.ENOSYS}, "doctor", cwd=tmp_path)
    (line,) = [line for line in done.stdout.splitlines() if " sandbox " in line and "namespaces works" not in line]
    assert done.returncode == 1
    assert line.startswith("fail")
    for part in ("landlock", "5.13", "--require none"):
        assert part in line
