"""Fixtures that need torch."""

from typing import Any

import pytest

from .policies import make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()
