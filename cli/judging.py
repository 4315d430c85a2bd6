"""The model that judges agents: the options that name it, and how it is opened."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import anyio
import typer

from rao_rl.scoring.attempts import AttemptJudge
from rao_rl.scoring.judge import Judge
from rao_rl.scoring.verdicts import VerdictCache
from recursive_agent.errors import ConfigurationError
from recursive_agent.model import connect, resolve_endpoint

from .messages import say
from .text import count

_PANEL = "Judge"

JudgeOption = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="MODEL",
        help="Let this model score the agents whose score the environment does not know.",
        rich_help_panel=_PANEL,
    ),
]
JudgeUrlOption = Annotated[
    str | None,
    typer.Option(
        "--judge-base-url",
        metavar="URL",
        help="Endpoint of the judge. Default: OPENAI_BASE_URL.",
        rich_help_panel=_PANEL,
    ),
]


@asynccontextmanager
async def open_judge(
    model: str, base_url: str | None, cache: Path | None = None, concurrency: int = 8
) -> AsyncIterator[tuple[Judge, list[str]]]:
    """The judge, and what must not get into a trace."""
    endpoint = resolve_endpoint(model, base_url)
    chosen = connect(endpoint)
    kept = VerdictCache(cache or _default_cache())
    try:
        yield Judge(chosen, cache=kept, concurrency=concurrency), [endpoint.api_key]
    finally:
        kept.close()
        with anyio.CancelScope(shield=True):
            await chosen.aclose()


@asynccontextmanager
async def attempt_judge(
    model: str | None, base_url: str | None, concurrency: int, *, quiet: bool
) -> AsyncIterator[AttemptJudge | None]:
    """The judge of attempts, None if no model is named. What it cost, apart from the agents, is said at the end."""
    if model is None:
        if base_url is not None:
            raise ConfigurationError("--judge-base-url works with --judge only")
        yield None
        return
    async with open_judge(model, base_url, concurrency=concurrency) as (judge, secrets):
        yield AttemptJudge(judge, secrets=secrets)
        if not quiet:
            usage = judge.usage
            say(
                f"the judge {model} read {count(usage.prompt_tokens, 'token')} and wrote {usage.completion_tokens:,}; "
                f"{count(judge.cached, 'verdict')} came from the cache"
            )


def _default_cache() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "rao" / "verdicts.db"
