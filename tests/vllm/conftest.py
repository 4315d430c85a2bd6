"""One vLLM for all of these tests, as `rao serve` starts it, since each start takes half a minute; `make integration`."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from rao_rl.weights.checkpoint import load_checkpoint
from rao_rl.weights.vllm import VllmReload
from recursive_agent.model.embedded import SHIPPED
from recursive_agent.model.served import ServedCheckpoint
from tests.cli.serving import Serving, serving

HERE = Path(__file__).parents[2]
NAME = "rao-textcraft"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.vllm)


def interpreter() -> str:
    """The one that has vLLM."""
    python = os.environ.get("RAO_VLLM_PYTHON") or str(HERE / ".envs" / "vllm" / "bin" / "python")
    assert Path(python).is_file(), "these tests need vLLM: make integration"
    return python


class Vllm:
    """The checkpoint in `folder`, served on one port, with further options of vLLM; it can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._stack = ExitStack()
        self.served: Serving | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def start(self) -> None:
        command = [str(self.folder), "--port", str(self._port), "--python", interpreter(), "--weight-updates"]
        command += ["--", *self.options] if self.options else []
        self.served = self._stack.enter_context(serving(*command, cwd=self.folder.parent))
        assert self.served.url() == self.url, self.served.errors

    def kill(self) -> int:
        """SIGKILL for vLLM's main process; the exit status of `rao serve`."""
        assert self.served is not None
        children = psutil.Process(self.served.process.pid).children()
        (main,) = [child for child in children if any("vllm.entrypoints" in word for word in child.cmdline())]
        main.kill()
        return self.served.end()

    def close(self) -> None:
        """End what is left of it, after a kill or before."""
        self._stack.close()

    def stop(self) -> None:
        assert self.served is not None
        status = self.served.stop(signal.SIGTERM)
        self._stack.close()
        assert status == 0, self.served.errors


@pytest.fixture(scope="session")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vllm]:
    server = Vllm(Path(shutil.copytree(SHIPPED, tmp_path_factory.mktemp("vllm") / "policy")))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/model's."""
    return "asyncio"


@pytest.fixture
async def model(vllm: Vllm) -> AsyncIterator[ServedCheckpoint]:
    model = ServedCheckpoint(vllm.folder, vllm.url)
    yield model
    await model.aclose()


@pytest.fixture
def policy() -> Any:
    """The weights of the served checkpoint, as a trainer has them."""
    return load_checkpoint(SHIPPED)[0]


@pytest.fixture
async def _weights_come_back(vllm: Vllm, policy: Any) -> AsyncIterator[None]:
    """For tests that push: the next one finds the served checkpoint as it was."""
    yield
    model = ServedCheckpoint(vllm.folder, vllm.url)
    await VllmReload(model, vllm.folder).push(load_checkpoint(SHIPPED)[0], 0)
    await model.aclose()
