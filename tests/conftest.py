"""Shared by all tests: both event loops, and an environment without the developer's own keys."""

import os

import hypothesis
import pytest

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
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "RAO_MODEL", "RAO_TRACE_DIR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
