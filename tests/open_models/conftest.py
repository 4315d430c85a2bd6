"""SmolLM2-135M on a real llama.cpp and on a real vLLM, as examples/open_model gets and serves it; `make integration`.

The model is downloaded once (98 MB) into the user's cache, under its SHA-256. Where it, or a server, cannot be had, the tests
are skipped and say why.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from examples.open_model.models import MODELS, ModelUnavailable, default_cache, get
from examples.open_model.serving import LLAMA_PYTHON, ServerSettings, llama_cpp
from tests.cli.serving import Serving, serving

HERE = Path(__file__).parents[2]
SMALLEST = "smollm2-135m"
WINDOW = 2048
"""Tokens of one conversation at both servers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.models)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The model behind one of the servers."""

    url: str
    name: str
    forced: str
    """The sampling setting that makes answers fit a grammar: "grammar" or "regex"."""

    def billed(self) -> tuple[int, int]:
        """Tokens that the server has read and written since it started, by its own count."""
        counts = {}
        for line in httpx2.get(self.url.removesuffix("/v1") + "/metrics").text.splitlines():
            name, _, value = line.partition("{")[0].partition(" ")
            number = line.rpartition(" ")[2]
            if not line.startswith("#"):
                counts[name] = float(value or number)
        read, written = (
            ("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total")
            if self.forced == "grammar"
            else ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
        )
        return int(counts[read]), int(counts[written])


@pytest.fixture
def anyio_backend() -> str:
    """Both event loops are tests/model's."""
    return "asyncio"


@pytest.fixture(scope="session")
def gguf() -> Path:
    try:
        return get(MODELS[SMALLEST], default_cache())
    except ModelUnavailable as error:
        pytest.skip(f"no real model: {error}")


@pytest.fixture(scope="session")
def checkpoint(gguf: Path) -> Path:
    """Converted by the documented command."""
    command = [sys.executable, "-m", "examples.open_model", "get", "--model", SMALLEST, "--checkpoint"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="package")
def llama(gguf: Path) -> Iterator[Served]:
    python = os.environ.get(LLAMA_PYTHON) or str(HERE / ".envs" / "llama" / "bin" / "python")
    if not Path(python).is_file():
        pytest.skip(f"no llama.cpp: {python} does not exist; make integration installs it")
    with ExitStack() as stack:
        try:
            server = stack.enter_context(llama_cpp(gguf, ServerSettings(window=WINDOW, parallel=2), python))
        except ModelUnavailable as error:
            pytest.fail(str(error))
        yield Served(url=server.url, name=server.model, forced="grammar")


@pytest.fixture(scope="package", autouse=True)
def _vllm_starts(request: pytest.FixtureRequest) -> Iterator[list[Serving]]:
    """It starts while the tests of the other server run: most of a minute goes into its imports."""
    here = [item for item in request.session.items if "models" in item.keywords]
    if not any("vllm" in item.name or "vllm" in getattr(item, "fixturenames", ()) for item in here):
        yield []
        return
    checkpoint: Path = request.getfixturevalue("checkpoint")
    python = os.environ.get("RAO_VLLM_PYTHON") or str(HERE / ".envs" / "vllm" / "bin" / "python")
    assert Path(python).is_file(), "these tests need vLLM: make integration"
    command = [str(checkpoint), "--port", "0", "--python", python, "--", "--max-model-len", str(WINDOW)]
    with serving(*command, cwd=checkpoint.parent) as process:
        yield [process]


@pytest.fixture(scope="package")
def vllm(_vllm_starts: list[Serving], checkpoint: Path) -> Served:
    (process,) = _vllm_starts
    url = process.url()
    assert url, process.errors
    return Served(url=url, name=checkpoint.name, forced="regex")


@pytest.fixture(scope="package", params=["llama", "vllm"])
def server(request: pytest.FixtureRequest) -> Served:
    """Each of the two."""
    served: Served = request.getfixturevalue(request.param)
    return served
