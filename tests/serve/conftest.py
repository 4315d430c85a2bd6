"""Servers run on asyncio only: uvicorn does."""

from collections.abc import AsyncIterator

import pytest

from .engine.engines import Served, served


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def engine() -> AsyncIterator[Served]:
    async with served() as it:
        yield it
