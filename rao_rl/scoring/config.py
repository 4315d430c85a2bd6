"""The settings of a judge. They hold no key: that comes from the environment of the process, and is never written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from recursive_agent.errors import ConfigurationError
from recursive_agent.model.endpoint import show_urls

from ..bounds import Count, Few, Positive, check


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeConfig:
    """The model that scores the agents whose score the environment does not know."""

    model: str | None = None
    """Name of the model; None: no judge, and such agents have no score."""
    base_url: str | None = None
    """Its endpoint, or several with commas between them; None: that of OPENAI_BASE_URL."""
    concurrency: Few = 8
    """Most calls of the judge at a time, of all attempts together."""
    timeout: Positive = 300.0
    """Seconds to wait for one verdict, retries included; then the agent has no score."""
    max_failures: Count = 16
    """Verdicts in a row that may fail before the run ends."""

    def __post_init__(self) -> None:
        check(self)
        if self.model == "":
            raise ConfigurationError("judge.model must name a model, or be none")

    def recorded(self) -> dict[str, Any]:
        """What a run writes down: the settings, with the URL without credentials."""
        url = None if self.base_url is None else show_urls(self.base_url)
        return {**asdict(self), "base_url": url}


NO_JUDGE = JudgeConfig()
