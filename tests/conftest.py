"""Shared by all tests: both event loops, and an environment without the developer's own keys."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

SLOW = frozenset(
    {
        "agent/test_odd_values",
        "agent/test_open_agents",
        "agent/test_raises",
        "campaign/test_machinery",
        "cli/test_isolation",
        "cli/test_sandboxes",
        "cli/test_serve",
        "cli/test_usage",
        "envs/test_extending",
        "mcp/test_faults",
        "mcp/test_servers",
        "model/test_capabilities",
        "model/test_gate",
        "model/test_not_http",
        "repl/test_attacks_native",
        "repl/test_conformance",
        "repl/test_fails_closed",
        "repl/test_namespaces",
        "repl/test_watchdog",
        "repl/worker/test_between_cells",
        "repl/worker/test_clock_and_names",
        "repl/worker/test_language",
        "repl/worker/test_language_generator",
        "repl/worker/test_own_hooks",
        "repl/worker/test_what_leaves_and_arrives",
        "rollouts/ray/test_cluster",
        "serve/agent/test_mcp_process",
        "serve/engine/test_refusals",
        "serve/http/test_browsers",
        "trace/test_heartbeat",
        "train/test_config",
        "train/test_processes",
    }
)
"""Suites that take long for what they add on most days: `make slow`, which CI runs too."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here) and str(item.path.relative_to(here).with_suffix("")) in SLOW:
            item.add_marker(pytest.mark.slow)


# An example may take as long as it takes: how fast a busy machine is says nothing of what is tested. A CI run says the same
# of the same commit each time; everywhere else new examples are tried.
hypothesis.settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("any machine")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ("OPENAI_BASE_URL", "OPENAI_API_KEY", "RAO_MODEL", "RAO_TRACE_DIR", "RAO_SESSION_HEADER", "COLUMNS", "LINES")
    for name in (*own, *(name for name in os.environ if name.startswith("OTEL_"))):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from tests.train.policies import make_tokenizer  # needs torch, which most tests do not

    return make_tokenizer()


@pytest.fixture(autouse=True)
def _interrupts_are_heeded() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored, and a run that ignores it is not stopped by it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
