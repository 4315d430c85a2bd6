"""`--max-depth`, `--max-tokens` and the other limits of a run: the options, and what they say as arguments of `Limits`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Limits

_PANEL = "Limits"
_DEFAULT = Limits()

MaxDepthOption = Annotated[
    int | None,
    typer.Option(
        "--max-depth",
        metavar="N",
        help=f"Maximum levels of sub-agents below the first agent; 0: no sub-agents. Default: {_DEFAULT.max_depth}.",
        rich_help_panel=_PANEL,
    ),
]
MaxAgentsOption = Annotated[
    int | None,
    typer.Option(
        "--max-agents",
        metavar="N",
        help=f"Maximum number of agents, the first one included. Default: {_DEFAULT.max_agents}.",
        rich_help_panel=_PANEL,
    ),
]
MaxStepsOption = Annotated[
    int | None,
    typer.Option(
        "--max-steps",
        metavar="N",
        help=f"Maximum steps (model calls) of each agent. Default: {_DEFAULT.max_steps}.",
        rich_help_panel=_PANEL,
    ),
]
MaxTokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        metavar="N",
        help=f"Maximum tokens of all agents together, prompts and answers, as billed. Default: {_DEFAULT.max_tokens}.",
        rich_help_panel=_PANEL,
    ),
]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        help=f"Time limit for the whole run. Default: {_DEFAULT.timeout:g}.",
        rich_help_panel=_PANEL,
    ),
]


def chosen_limits(**options: float | None) -> dict[str, Any]:
    """Arguments of `Limits` for the options that were set (not None). Raises ConfigurationError, naming the option."""
    limits: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    for name, value in limits.items():
        try:
            Limits(**{name: value})
        except ConfigurationError as error:
            option = f"--{name.replace('_', '-')}"
            raise ConfigurationError(str(error).replace(f"Limits.{name}", option)) from None
    return limits
