"""What an endpoint really does, found out by asking it; a 200 response is not taken as proof."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from ..errors import ModelError
from ..usage import Usage
from .endpoint import Endpoint
from .probing import Findings, Probe

MOST_REQUESTS = 9
"""Requests for an answer that one probe makes, not counting those that fail."""
MOST_TOKENS = 216
"""Tokens that are sampled in answer to them, at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an endpoint supports for one model: True (tested, it does), False (tested, it does not) or None (unknown).

    For each field that is not True, `problems` says why in one sentence. `usage` is the cost of the tests.
    """

    chat: bool | None
    """Answers conversations."""
    streams: bool | None
    """Sends a chat answer in pieces."""
    usage_in_answers: bool | None
    """Says what a whole answer cost, in numbers that can be true."""
    usage_in_streams: bool | None
    """Says what a streamed answer cost, the same number of prompt tokens as for a whole one."""
    completions: bool | None
    """Continues plain text."""
    tokenize: bool | None
    """Gives the ids of a conversation, as many as the same conversation was billed for."""
    appends: bool | None
    """Its chat template leaves earlier turns as they are, so that a conversation can go on token by token."""
    token_prompts: bool | None
    """Continues exactly the ids that it is given."""
    token_ids: bool | None
    """Gives the ids of the prompt and of what it sampled."""
    logprobs: bool | None
    """Gives a finite log-prob for each sampled id."""
    scaled_logprobs: bool | None
    """Log-probs are those of the distribution that was sampled from, so they change with the temperature."""
    structured_output: bool | None
    """A JSON schema in `response_format` is enforced."""
    seed: bool | None
    """The same seed gives the same sample."""
    context_length: int | None
    """Context window in tokens, where the endpoint says it."""
    version: str | None
    """The endpoint's `system_fingerprint`."""
    problems: Mapping[str, str]
    usage: Usage = field(repr=False)

    @property
    def tokens(self) -> bool:
        """Whether `interface="tokens"` works with the endpoint's own chat template."""
        return all((self.tokenize, self.appends, self.token_prompts, self.token_ids, self.logprobs))

    @property
    def trainable(self) -> bool:
        """Whether runs on this endpoint can be used for training: it accepts token ids, and returns token ids and log-probs.

        If `scaled_logprobs` is not True, sample at temperature 1 only. The endpoint's chat template does not matter here,
        because a checkpoint on this machine has its own.
        """
        return all((self.token_prompts, self.token_ids, self.logprobs))


class _Flight:
    """A probe under way, which others wait for."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.found: Capabilities | None = None
        self.error: ModelError | None = None


_known: dict[Endpoint, Capabilities] = {}
_flights: dict[tuple[EventLoopToken, Endpoint], _Flight] = {}


async def probe(endpoint: Endpoint, *, fresh: bool = False, timeout: float = 60.0) -> Capabilities:
    """Test what `endpoint` supports for its model. The process caches the result; `fresh=True` tests again.

    Makes at most MOST_REQUESTS requests for at most MOST_TOKENS sampled tokens, and some to /models and /tokenize; it
    repeats a temporary failure once. `timeout` (seconds) limits each request. Simultaneous callers share one probe. A field
    that remains unknown because of temporary failures is None, and the next call tests it again.

    Raises EndpointUnavailable, AuthenticationFailed or ModelNotFound if the endpoint or the model cannot be reached.
    """
    key = (current_token(), endpoint)
    while True:
        flight = _flights.get(key)
        if flight is None:
            if not fresh and (known := _known.get(endpoint)) is not None:
                return known
            return await _fly(key, timeout)
        await flight.done.wait()
        if flight.error is not None:
            raise copy.copy(flight.error)
        if flight.found is not None:
            return flight.found
        # Whoever was at it has been cancelled; somebody else takes over.


async def _fly(key: tuple[EventLoopToken, Endpoint], timeout: float) -> Capabilities:
    flight = _flights[key] = _Flight()
    try:
        findings = await Probe(key[1], timeout=timeout).findings()
        flight.found = _capabilities(findings)
        if not findings.failed_in_passing:
            _known[key[1]] = flight.found
        return flight.found
    except ModelError as error:
        flight.error = error
        raise
    finally:
        del _flights[key]
        flight.done.set()


def _capabilities(findings: Findings) -> Capabilities:
    names = [item.name for item in fields(Capabilities) if item.name not in ("problems", "usage")]
    for name in names:
        if name not in findings.values:
            findings.note(name, None, "it was not reached")
    return Capabilities(**findings.values, problems=findings.problems, usage=findings.usage)
