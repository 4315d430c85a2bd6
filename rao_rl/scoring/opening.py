"""How a judge is opened, by its settings, and what is said of its cost at the end."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from recursive_agent.errors import ConfigurationError
from recursive_agent.model import connect, resolve_endpoints
from recursive_agent.model.endpoint import Endpoint

from .attempts import AttemptJudge
from .calibration import Calibration
from .config import JudgeConfig
from .judge import Judge, failures_of
from .verdicts import VerdictCache


def check_judge(config: JudgeConfig) -> tuple[Endpoint, ...]:
    """The endpoints of the judge, none without one. Nothing is sent. Raises ConfigurationError, saying what is missing."""
    if config.model is None:
        if config.base_url is not None:
            raise ConfigurationError("--judge-base-url works with --judge only (judge.base_url with judge.model)")
        return ()
    return resolve_endpoints(config.model, config.base_url)


@asynccontextmanager
async def open_judge(config: JudgeConfig, cache: Path | None = None) -> AsyncIterator[tuple[Judge, list[str]]]:
    """The judge, and what must not get into a trace. `cache` is the file of verdicts; None: that of the user."""
    endpoints = check_judge(config)
    if not endpoints:
        raise ConfigurationError("name the model that judges: --judge MODEL")
    chosen = connect(endpoints)
    try:
        kept = VerdictCache(cache or default_cache())
        try:
            yield (
                Judge(chosen, cache=kept, concurrency=config.concurrency, timeout=config.timeout),
                [endpoint.api_key for endpoint in endpoints],
            )
        finally:
            kept.close()
    finally:
        with anyio.CancelScope(shield=True):
            await chosen.aclose()


@asynccontextmanager
async def open_attempt_judge(
    config: JudgeConfig, *, calibration: Calibration | None = None, say: Callable[[str], None] | None = None
) -> AsyncIterator[AttemptJudge | None]:
    """The judge of attempts; None if the settings name none. At the end, `say` is told what it cost apart from the agents."""
    if not check_judge(config):
        yield None
        return
    async with open_judge(config) as (judge, secrets):
        try:
            yield AttemptJudge(judge, secrets=secrets, max_failures=config.max_failures, calibration=calibration)
        finally:
            if say is not None:
                say(cost_of(judge))


def cost_of(judge: Judge) -> str:
    """What the calls of a judge cost and came to, in a sentence."""
    usage = judge.usage
    text = (
        f"the judge {judge.model.name} read {usage.prompt_tokens:,} tokens and wrote {usage.completion_tokens:,}; "
        f"{judge.cached:,} {'verdict' if judge.cached == 1 else 'verdicts'} came from the cache"
    )
    if not judge.failures:
        return text
    return f"{text}, and {judge.failures.total():,} failed ({failures_of(judge)}), whose agents have no score"


def default_cache() -> Path:
    """The file of verdicts that all commands of a user share."""
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "rao" / "verdicts.db"
