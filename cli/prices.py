"""`--prices`: what the tokens of a model cost."""

from __future__ import annotations

from typing import Annotated

import typer

from recursive_agent.errors import ConfigurationError
from recursive_agent.limits import Prices

PricesOption = Annotated[
    str | None,
    typer.Option(
        "--prices",
        metavar="prompt=P,completion=P",
        help="Prices per million tokens, to report the cost; cached=P for prompt tokens from the endpoint's cache.",
        rich_help_panel="Output",
    ),
]


def parse_prices(text: str | None) -> Prices | None:
    """`prompt=0.15,completion=0.6` as prices; None for None. Raises ConfigurationError for anything else."""
    if text is None:
        return None
    rates: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            rates[name.strip()] = float(number)
        except ValueError:
            rates = {}
            break
    try:
        return Prices.of(rates)
    except ConfigurationError:
        raise ConfigurationError(
            f"--prices takes prompt=P,completion=P (and cached=P), each at least 0 per million tokens, not {text!r}"
        ) from None
