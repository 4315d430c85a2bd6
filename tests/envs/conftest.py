"""Sessions and scorers know nothing of the event loop: one of them is enough on most days."""

import pytest


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.slow)])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
