"""While a large value is made no garbage is collected; afterwards collection is as it was."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from recursive_agent.sizes import no_collection, rare_collections


def test_no_garbage_is_collected_while_a_large_value_is_made() -> None:
    seen: list[str] = []

    def note(phase: str, info: dict[str, int]) -> None:
        seen.append(phase)

    gc.enable()
    gc.callbacks.append(note)
    try:
        with no_collection():
            made: list[Any] = [[] for _ in range(50_000)]
            assert not seen
        assert gc.isenabled()
        made = [made, *([] for _ in range(50_000))]
        assert seen
    finally:
        gc.callbacks.remove(note)
    assert len(made) == 50_001


def test_collections_are_rare_while_many_agents_run_and_as_before_afterwards() -> None:
    before = gc.get_threshold()
    with rare_collections():
        assert gc.get_threshold() == (10_000, *before[1:])
        with rare_collections():
            pass
        assert gc.get_threshold()[0] == 10_000
    assert gc.get_threshold() == before


@pytest.mark.parametrize("first", [0, 50_000])
def test_a_caller_who_collects_more_rarely_or_never_is_left_alone(first: int) -> None:
    before = gc.get_threshold()
    gc.set_threshold(first, *before[1:])
    try:
        with rare_collections():
            assert gc.get_threshold()[0] == first
    finally:
        gc.set_threshold(*before)


def test_collection_that_was_off_stays_off_and_goes_on_after_a_failure() -> None:
    gc.disable()
    try:
        with no_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
    with pytest.raises(ValueError, match="x"), no_collection():
        raise ValueError("x")
    assert gc.isenabled()
