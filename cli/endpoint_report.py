"""`rao doctor`: whether an endpoint is there, and what its model really does, with what that means for its user."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio

from recursive_agent.model.endpoint import base_urls

from .models import find_checkpoint
from .text import count, one_line

if TYPE_CHECKING:
    from recursive_agent.model.capabilities import Capabilities
    from recursive_agent.model.endpoint import Endpoint

Verdict = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """One line of the report, below the subject it belongs to."""

    verdict: Verdict
    text: str


class Meaning(NamedTuple):
    """What some fields of `Capabilities` together are called, and what it means that all hold, or that one does not."""

    fields: tuple[str, ...]
    called: str
    held: str
    missing: str
    severity: Verdict = "warn"


CHAT = Meaning(("chat",), "chat", "agents can run on it", "agents cannot run on it by --interface chat", "fail")
TOKENS = Meaning(
    ("token_prompts", "token_ids", "logprobs"),
    "token ids and log-probs",
    "can be trained on, with --interface tokens",
    "runs cannot be trained on, except by imitation of their text",
)
EXACT = (
    Meaning(
        ("scaled_logprobs",),
        "log-probs follow the temperature",
        "samples of any temperature can be trained on",
        "train on samples of temperature 1 only",
    ),
    Meaning(
        ("tokenize", "appends"),
        "chat template as token ids",
        "--interface tokens needs no file of the model",
        "--interface tokens needs the model's directory, rao run --model DIR",
    ),
)
"""What matters only where TOKENS hold."""
OTHERS = (
    Meaning(
        ("streams",), "streaming", "answers can be shown as they come", "an answer can be shown once it is whole only"
    ),
    Meaning(
        ("usage_in_answers",),
        "usage in answers",
        "limits hold to the token",
        "limits count an upper bound, so that trees stop early",
    ),
    Meaning(
        ("usage_in_streams",),
        "usage in streams",
        "streamed answers are counted as well",
        "streamed answers count by an upper bound",
    ),
    Meaning(("completions",), "completions", "plain text can be continued", "only conversations are answered"),
    Meaning(
        ("structured_output",),
        "structured output",
        "a schema in response_format is enforced",
        "no schema in response_format can be relied on",
    ),
    Meaning(("seed",), "seed", "the same seed gives the same sample", "samples cannot be repeated"),
)


class EndpointReport:
    """Checks of one endpoint, and of one of its models where the command line names either."""

    def __init__(self, base_url: str | None, model: str | None) -> None:
        self._urls = base_urls(base_url or os.environ.get("OPENAI_BASE_URL"))
        self._key = os.environ.get("OPENAI_API_KEY")
        self._model = model
        self._asks = base_url is not None or model is not None
        self._reached: list[Endpoint] = []

    def reach(self) -> Iterator[Finding]:
        """Whether it is there, with the model of the command line; the same of each, where there are several."""
        from recursive_agent.model.endpoint import resolve_endpoints

        if not self._urls and not self._key:
            advice = "pass --base-url or set OPENAI_BASE_URL (and OPENAI_API_KEY) for goals other than rao run --demo"
            yield Finding("warn", f"none configured: {advice}")
            return
        named = self._named()
        for endpoint in resolve_endpoints(named or "any", self._urls, self._key):
            yield from self._reach(endpoint, named)

    def _reach(self, endpoint: Endpoint, named: str | None) -> Iterator[Finding]:
        models, failure = _models(endpoint)
        if failure is not None:
            yield failure
        elif not models:
            yield Finding("warn", f"{endpoint.shown_url} answers but names no model")
        elif named and named not in models:
            source = "--model" if self._model else "RAO_MODEL"
            yield Finding("fail", f"{endpoint.shown_url} has no model {named} ({source}); it has {_some(models)}")
            return
        else:
            yield Finding("ok", f"{endpoint.shown_url} has {_some(models)}")
        if not self._asks or failure is not None:
            return
        asked = named or _only(models)
        if asked is None:
            yield Finding("warn", "not asked what it does: name a model, with --model NAME")
        elif _is_agent(asked, models):
            yield Finding(
                "warn", f"{asked} is an agent, which would run a tree for each question: ask the model under it"
            )
        else:
            self._reached.append(replace(endpoint, model=asked))

    def ask(self) -> Iterator[Finding]:
        """What the model really does; nothing where it was not reached. Raises ModelError."""
        for endpoint in self._reached:
            if len(self._urls) > 1:
                yield Finding("ok", f"at {endpoint.shown_url}:")
            yield from self._ask(endpoint)

    def _ask(self, endpoint: Endpoint) -> Iterator[Finding]:
        from recursive_agent.model.capabilities import probe

        found = anyio.run(probe, endpoint)
        for meaning in (CHAT, *OTHERS, TOKENS, *(EXACT if found.trainable else ())):
            yield _finding(meaning, found)
        if found.context_length:
            yield Finding("ok", f"context length: {found.context_length:,} tokens → agents end before they overflow it")
        else:
            yield Finding("warn", _unknown(found, "context_length", "context length", "agents learn it from a refusal"))
        if found.version:
            yield Finding("ok", f"version: {found.version} → traces say what answered")
        else:
            yield Finding("ok", _unknown(found, "version", "version", "traces say the model's name only"))
        spent = found.usage
        upper = f" (and up to {spent.unconfirmed:,} more)" if spent.unconfirmed else ""
        yield Finding(
            "ok", f"finding this out took {count(spent.calls, 'answer')}, {spent.total_tokens:,} tokens{upper}"
        )

    def _named(self) -> str | None:
        """The name of the model at the endpoint; a checkpoint directory stands for the name in its agent.json."""
        if (checkpoint := find_checkpoint(self._model, ",".join(self._urls) or None)) is None:
            return self._model or os.environ.get("RAO_MODEL")
        from recursive_agent.checkpoint import CheckpointSettings

        return CheckpointSettings.of(checkpoint.directory).name


def _finding(meaning: Meaning, found: Capabilities) -> Finding:
    values: dict[str, Any] = {name: getattr(found, name) for name in meaning.fields}
    for name, value in values.items():
        if value is False:
            return Finding(
                meaning.severity, f"{meaning.called}: no ({one_line(found.problems[name], 200)}) → {meaning.missing}"
            )
    for name, value in values.items():
        if value is None:
            return Finding("warn", _unknown(found, name, meaning.called))
    return Finding("ok", f"{meaning.called}: yes → {meaning.held}")


def _unknown(found: Capabilities, name: str, called: str, means: str | None = None) -> str:
    return f"{called}: unknown ({one_line(found.problems[name], 200)})" + (f" → {means}" if means else "")


def _models(endpoint: Endpoint) -> tuple[dict[str, str], Finding | None]:
    """The names that are on offer and what each stands for (one model may have several), or why there are none."""
    from recursive_agent.model.failures import Failure, Rejected
    from recursive_agent.model.remote import list_models

    try:
        cards = anyio.run(list_models, endpoint)
    except Failure as failure:
        status = failure.status if isinstance(failure, Rejected) else None
        return {}, _unreachable(endpoint.shown_url, status, failure.reason)
    return {str(card["id"]): str(card.get("root") or card["id"]) for card in cards if "id" in card}, None


def _only(models: dict[str, str]) -> str | None:
    """The one model there is, by the name that it has itself where that is listed."""
    roots = set(models.values())
    if len(roots) != 1:
        return None
    (root,) = roots
    return root if root in models else next(iter(models))


def _is_agent(name: str, models: dict[str, str]) -> bool:
    return name == f"{models.get(name)}-agent"


def _unreachable(url: str, status: int | None, reason: str) -> Finding:
    if status in (401, 403):
        return Finding("fail", f"{url} refuses the key (status {status}); check OPENAI_API_KEY")
    if status == 404:
        return Finding("fail", f"{url} has no /models (status 404); does the URL end in /v1?")
    if status is not None:
        return Finding("fail", f"{url} answers with status {status}; see the log of the server")
    return Finding("fail", f"{url} cannot be reached ({one_line(reason, 120)}); is the server running?")


def _some(models: dict[str, str]) -> str:
    more = f" and {len(models) - 5} more" if len(models) > 5 else ""
    return ", ".join(list(models)[:5]) + more
