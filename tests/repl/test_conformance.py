"""Our own sandboxes against the suite that anybody's sandbox can run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import psutil
import pytest

from recursive_agent.repl import InProcessSandbox, NamespaceSandbox, ProcessSandbox, Repl, Sandbox, TrustedCodeWarning
from recursive_agent.repl.namespaces import why_unavailable
from recursive_agent.repl.worker_repl import WorkerRepl
from recursive_agent.testing.sandbox_conformance import CLAIMS, SandboxConformance
from tests.waiting import until


async def _kill(repl: Repl) -> None:
    assert isinstance(repl, WorkerRepl)
    assert repl.pid is not None
    worker = psutil.Process(repl.pid)
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


class TestProcess(SandboxConformance):
    def make_sandbox(self) -> Sandbox:
        return ProcessSandbox(spares=1)

    async def kill_worker(self, repl: Repl) -> None:
        await _kill(repl)


class TestInProcess(SandboxConformance):
    claims = CLAIMS - {"isolation", "memory", "interrupt", "killed"}

    def make_sandbox(self) -> Sandbox:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrustedCodeWarning)
            return InProcessSandbox()


@pytest.mark.skipif(why_unavailable() is not None, reason=str(why_unavailable()))
class TestNamespaces(SandboxConformance):
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"  # it is the process sandbox, started otherwise

    def make_sandbox(self) -> Sandbox:
        return NamespaceSandbox(spares=1)

    async def kill_worker(self, repl: Repl) -> None:
        await _kill(repl)


OTHERS = """
import pytest, warnings
from recursive_agent.repl import InProcessSandbox
from recursive_agent.testing.sandbox_conformance import CLAIMS, SandboxConformance

class TestTheirs(SandboxConformance):
    claims = CLAIMS - {"isolation", "memory", "interrupt", "killed"}
    def make_sandbox(self):
        warnings.simplefilter("ignore")
        return InProcessSandbox()

class Forgetful(InProcessSandbox):
    async def open(self, **settings):
        repl = await super().open(**settings)
        run = repl.run
        async def forget(code):
            result = await run(code)
            await run("x = None")
            return result
        repl.run = forget
        return repl

class TestForgetful(TestTheirs):
    def make_sandbox(self):
        warnings.simplefilter("ignore")
        return Forgetful()
"""


def test_anybody_can_run_the_suite_and_a_sandbox_that_fails_it_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(OTHERS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "asyncio and (state or twice)"]
    places = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": places}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "FAILED test_theirs.py::TestForgetful::test_state_persists_across_cells[asyncio]" in done.stdout, done.stdout
    assert "1 failed, 3 passed" in done.stdout
