"""`--max-depth`, `--max-tokens` and the other limits of a run: the options, and what they say as arguments of `Limits`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Limits

_PANEL = "Limits"
_DEFAULT = Limits()


def limit_option(name: str, text: str, *, panel: str = _PANEL, metavar: str = "N") -> Any:
    """An option that sets a limit."""
    return typer.Option(name, metavar=metavar, help=text, rich_help_panel=panel)


MaxDepthOption = Annotated[
    int | None,
    limit_option(
        "--max-depth",
        f"Maximum levels of sub-agents below the first agent; 0: no sub-agents. Default: {_DEFAULT.max_depth}.",
    ),
]
MaxAgentsOption = Annotated[
    int | None,
    limit_option(
        "--max-agents",
        f"Maximum number of agents, the first one included. Default: {_DEFAULT.max_agents}.",
    ),
]
MaxStepsOption = Annotated[
    int | None,
    limit_option(
        "--max-steps",
        f"Maximum steps (model calls) of each agent. Default: {_DEFAULT.max_steps}.",
    ),
]
MaxTokensOption = Annotated[
    int | None,
    limit_option(
        "--max-tokens",
        f"Maximum tokens of all agents together, prompts and answers, as billed. Default: {_DEFAULT.max_tokens}.",
    ),
]
TimeoutOption = Annotated[
    float | None,
    limit_option(
        "--timeout",
        f"Time limit for the whole run. Default: {_DEFAULT.timeout:g}.",
        metavar="SECONDS",
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
