"""Shared by all tests: both event loops, and an environment without the developer's own keys."""

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY", "RAO_MODEL", "RAO_TRACE_DIR", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
