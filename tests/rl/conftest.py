"""Fixtures that need torch."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from .policies import make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(autouse=True)
def _interrupts_are_heeded() -> Iterator[None]:
    """A shell starts its background jobs with SIGINT ignored, and a run that ignores it is not stopped by it."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
