"""`--models` and `--choose`: several models for the agents of one run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError

_PANEL = "Model"

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--models",
        metavar="NAME=MODEL[@URL],…",
        help="Further models that agents may choose for sub-agents, by name: fast=MODEL at the endpoint of --base-url, or "
        "fast=MODEL@http://host/v1 at another one.",
        rich_help_panel=_PANEL,
    ),
]
ChooseOption = Annotated[
    str | None,
    typer.Option(
        "--choose",
        metavar="DEPTH=NAME,…",
        help="Choose the models of --models by depth instead: 1=fast gives depth 1, and what is below it, the model fast.",
        rich_help_panel=_PANEL,
    ),
]
ShareOption = Annotated[
    bool,
    typer.Option(
        "--share-identical",
        metavar="",
        help="Solve identical goals of sub-agents once.",
        rich_help_panel="Limits",
    ),
]


def parse_models(texts: Sequence[str] | None) -> dict[str, Any]:
    """`fast=MODEL`, `fast=MODEL@URL` and such with commas, as `Agent(models=...)` takes them. Raises ConfigurationError."""
    from recursive_agent import ModelChoice

    found: dict[str, Any] = {}
    for part in (part.strip() for text in texts or () for part in text.split(",")):
        name, equals, rest = part.partition("=")
        model, _, url = rest.partition("@http")
        if not (name.strip() and equals and model.strip()):
            raise ConfigurationError(
                f"--models takes NAME=MODEL or NAME=MODEL@URL, separated by commas, not {part!r:.80}"
            )
        if name.strip() in found:
            raise ConfigurationError(f"--models has the name {name.strip()!r} twice; give each model its own name")
        found[name.strip()] = ModelChoice(model=model.strip(), base_url=f"http{url}" if url else None)
    return found


def parse_choose(text: str | None) -> dict[int, str] | None:
    """`0=big,1=fast` as `Agent(choose=...)` takes it. Raises ConfigurationError."""
    if text is None:
        return None
    found: dict[int, str] = {}
    for part in text.split(","):
        depth, equals, name = (each.strip() for each in part.partition("="))
        if not (equals and name and depth.isascii() and depth.isdigit() and len(depth) < 10):
            raise ConfigurationError(f"--choose takes DEPTH=NAME, separated by commas, not {part!r:.80}")
        found[int(depth)] = name
    return found
