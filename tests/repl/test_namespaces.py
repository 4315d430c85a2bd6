"""The `namespaces` sandbox: what its workers see of the machine, in plain Python, and how it lives and dies."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import psutil
import pytest

from recursive_agent import Agent
from recursive_agent.errors import SandboxError
from recursive_agent.repl import NamespaceSandbox, namespaces
from recursive_agent.repl.kernel import KERNEL_LAYERS
from recursive_agent.repl.worker_repl import WorkerRepl
from recursive_agent.testing import ScriptedEndpoint, replies
from tests.waiting import PATIENCE, until

from .conftest import PATIENT, answer

needed = pytest.mark.skipif(namespaces.why_unavailable() is not None, reason=str(namespaces.why_unavailable()))


WALLS = {"bwrap": namespaces._bubblewrap(), "unshare": namespaces._own()}


@pytest.fixture(params=sorted(WALLS))
async def box(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NamespaceSandbox]:
    wall = WALLS[request.param]
    refusal = "it is not installed" if wall is None else namespaces._refusal(wall)
    if wall is None or refusal:
        pytest.skip(f"{request.param}: {refusal}")
    monkeypatch.setattr(namespaces, "find_wall", lambda: tuple(wall))
    async with NamespaceSandbox(spares=1, policy=False) as sandbox:
        yield sandbox


async def worker_of(sandbox: NamespaceSandbox) -> tuple[WorkerRepl, psutil.Process]:
    repl = await sandbox.open(call=answer, limits=PATIENT)
    assert isinstance(repl, WorkerRepl)
    return repl, psutil.Process(repl.pid)


@needed
@pytest.mark.anyio
async def test_all_layers_hold_and_the_namespaces_besides(box: NamespaceSandbox) -> None:
    assert box.enforced >= KERNEL_LAYERS | {"process", "namespaces"}


@needed
@pytest.mark.anyio
async def test_each_namespace_is_another_than_the_hosts(box: NamespaceSandbox) -> None:
    _, worker = await worker_of(box)
    for kind in namespaces.LAYERS:
        name = {"mount": "mnt"}.get(kind, kind)
        assert Path(f"/proc/{worker.pid}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink()


@needed
@pytest.mark.anyio
async def test_the_host_knows_the_real_process_id(box: NamespaceSandbox) -> None:
    repl, worker = await worker_of(box)
    result = await repl.run("import os\nprint(os.getpid())")
    inside = int(result.output)
    status = Path(f"/proc/{worker.pid}/status").read_text()
    assert inside != worker.pid
    assert status.split("NSpid:")[1].split("\n")[0].split() == [str(worker.pid), str(inside)]


@needed
@pytest.mark.anyio
async def test_its_files_are_python_and_nothing_else(box: NamespaceSandbox) -> None:
    """Seen from outside, as if Landlock were gone."""
    _, worker = await worker_of(box)
    root = Path(f"/proc/{worker.pid}/root")
    python = {Path(place).parts[1] for place in (sys.prefix, sys.base_prefix, __file__)}  # wherever it is installed
    seen = {path.name for path in root.iterdir()} - python
    assert not {"home", "tmp", "var", "run", "dev", "sys", "boot", "mnt"} & seen
    for place in ("etc/passwd", "etc/shadow", "usr/bin", "usr/share", "bin/sh"):
        assert not (root / place).exists()
    for place in (Path.home(), Path.cwd()):
        there = root / place.relative_to("/")
        assert not any((there / name).exists() for name in (".bashrc", ".ssh", "pyproject.toml", "README.md", ".git"))
    for line in Path(f"/proc/{worker.pid}/mountinfo").read_text().splitlines():
        if " - proc " not in line:
            assert line.split()[5].split(",")[0] == "ro", line


@needed
@pytest.mark.anyio
async def test_its_network_has_nothing_but_itself(box: NamespaceSandbox) -> None:
    _, worker = await worker_of(box)
    lines = Path(f"/proc/{worker.pid}/net/dev").read_text().splitlines()[2:]
    assert [line.split(":")[0].strip() for line in lines] == ["lo"]
    assert not Path(f"/proc/{worker.pid}/net/tcp").read_text().splitlines()[1:]


@needed
@pytest.mark.anyio
async def test_a_killed_worker_and_a_killed_helper_are_replaced(box: NamespaceSandbox) -> None:
    repl, worker = await worker_of(box)
    worker.kill()
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert "restarted" in (await repl.run("1")).output
    assert box._zygote is not None
    family = psutil.Process(box._zygote.pid).children(recursive=True)
    os.kill(box._zygote.pid, signal.SIGKILL)
    await until(lambda: not any(process.is_running() for process in family))
    with anyio.fail_after(PATIENCE):
        await repl.run("1")
        assert (await repl.run("6 * 7")).output.endswith("42\n")


@needed
@pytest.mark.anyio
async def test_nothing_is_left_of_it() -> None:
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with NamespaceSandbox(spares=2) as sandbox:
        repl = await sandbox.open(call=answer)
        assert (await repl.run("1")).status == "ok"
        family = [process for process in psutil.Process().children(recursive=True) if process.pid not in before]
        assert len(family) >= 3
    await until(lambda: not any(process.is_running() for process in family))
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


@needed
def test_an_agent_runs_in_it_by_name() -> None:
    with ScriptedEndpoint(replies(["```python\nfinish(6 * 7)\n```"])) as endpoint:
        result = Agent("scripted", endpoint.base_url, sandbox="namespaces").solve_sync("go")
    assert result.output == 42
    assert "namespaces" in result.tree.settings["enforced"]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine on which namespaces are refused; a folder for its programs."""
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(namespaces, "_HERE", tmp_path)
    (tmp_path / "wall.py").write_text("raise SystemExit('user namespaces are refused: Operation not permitted')")
    monkeypatch.setenv("PATH", str(tmp_path))
    namespaces.find_wall.cache_clear()
    yield program
    namespaces.find_wall.cache_clear()


@pytest.mark.anyio
async def test_where_namespaces_are_refused_it_says_why_and_what_to_do(refused: Path) -> None:
    with pytest.raises(
        SandboxError, match=r"No permissions.*user namespaces are refused.*max_user_namespaces"
    ) as caught:
        async with NamespaceSandbox():
            pass
    assert "install" not in str(caught.value)
    refused.unlink()
    namespaces.find_wall.cache_clear()
    with pytest.raises(SandboxError, match="install bubblewrap"):
        async with NamespaceSandbox():
            pass
    with pytest.raises(SandboxError, match="install bubblewrap"):
        await Agent("m", "http://localhost:1/v1", sandbox="namespaces", require=None).solve("go")
