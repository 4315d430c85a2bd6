"""The model that judges agents: the options that name it, and what is said where an environment needs one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Annotated

import typer

from rao_rl.envs import Environment
from rao_rl.scoring.attempts import AttemptJudge
from rao_rl.scoring.calibration import Calibration
from rao_rl.scoring.config import JudgeConfig
from rao_rl.scoring.needs import judge_notice
from rao_rl.scoring.opening import check_judge, open_attempt_judge

from .messages import say

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


def judge_config(
    model: str | None, base_url: str | None, concurrency: int, environment: Environment, *, recursive: bool, quiet: bool
) -> JudgeConfig:
    """The settings of the judge. Where the environment needs one and none is named, says who will have no score.

    Raises ConfigurationError for a judge that cannot be asked, before anything is attempted.
    """
    config = JudgeConfig(model=model, base_url=base_url, concurrency=concurrency)
    check_judge(config)
    line = judge_notice(environment, judged=model is not None, recursive=recursive)
    if line is not None and not quiet:
        say(line)
    return config


def attempt_judge(
    config: JudgeConfig, *, calibration: Calibration | None = None, quiet: bool
) -> AbstractAsyncContextManager[AttemptJudge | None]:
    """The judge of attempts, None if no model is named. What it cost, apart from the agents, is said at the end."""
    return open_attempt_judge(config, calibration=calibration, say=None if quiet else say)
