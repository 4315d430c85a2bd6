"""How many tokens the endpoint's own tokenizer makes of a conversation: POST /tokenize of vLLM, /apply-template of llama.cpp.

Asking costs nothing, and the answer is exact. Only servers are asked whose /v1/models looks like that of one with a tokenizer.
Whether they can be is found out with the first question; what they say is held against what they then bill, and an endpoint
that once counted too few is not asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import anyio
from anyio.lowlevel import EventLoopToken, current_token

from .bill import MOST_TOKENS, least_tokens
from .endpoint import OPENAI_URL, Endpoint
from .failures import Failure, Rejected
from .remote import MODELS, MODELS_TIMEOUT, cards_of
from .wire import Wire

_log = logging.getLogger(__name__)

_TIMEOUT = 10.0
"""Seconds that a count may take; it spares no more than a wide reservation."""
_MOST_FAILURES = 3
"""Failures in a row after which an endpoint is not asked again."""
_ABSENT = frozenset({401, 403, 404, 405, 410, 501})
"""Statuses of an endpoint that has no such path, or not for this key."""
_WITH_TOKENIZER = frozenset({"vllm", "sglang", "llamacpp", "llama.cpp"})
"""What `owned_by` says of servers that have /tokenize."""
_MARGIN = 16
"""Tokens on top of a count until a bill has confirmed one."""
_TEMPLATE_SETTINGS = ("chat_template", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")
"""Settings of a request that change what the chat template makes of it."""


class _Way(Enum):
    UNKNOWN = "not asked yet"
    COUNT = "/tokenize takes a conversation"
    TEMPLATE = "/apply-template gives its text, /tokenize takes that"
    NONE = "it cannot be asked"


class PromptCounter:
    """Counts the prompts of one endpoint, where it offers that."""

    def __init__(self, endpoint: Endpoint, wire: Wire) -> None:
        self._endpoint = endpoint
        self._wire = wire
        hosted = endpoint.base_url == OPENAI_URL or endpoint.is_azure
        self._way = _Way.NONE if hosted else _Way.UNKNOWN
        self._confirmed = False
        self._failures = 0
        self._first: dict[EventLoopToken, anyio.Lock] = {}

    async def count(self, body: Mapping[str, Any], size: int) -> int | None:
        """Most tokens of the prompt of a chat request whose texts have `size` bytes; None where that cannot be told."""
        if self._way is _Way.UNKNOWN:
            # Only one call finds out whether there is a tokenizer; those beside it wait for that.
            async with self._first.setdefault(current_token(), anyio.Lock()):
                return await self._ask(body, size)
        return await self._ask(body, size)

    def check(self, counted: int, billed: int) -> None:
        """What a prompt of that count was billed for. Too small a count is the last one that is believed."""
        if billed <= counted:
            self._confirmed = self._confirmed or billed <= counted - _MARGIN
        elif self._way is not _Way.NONE:
            self._way = _Way.NONE
            _log.warning(
                "The tokenizer of %s counts %d tokens where %d are billed, so it is not asked again.",
                self._endpoint.shown_url, counted, billed,
            )  # fmt: skip

    async def _ask(self, body: Mapping[str, Any], size: int) -> int | None:
        if self._way is _Way.NONE:
            return None
        try:
            count = await self._count(body)
        except Failure as failure:
            self._failures += 1
            absent = isinstance(failure, Rejected) and failure.status in _ABSENT
            if absent or failure.lost or self._failures >= _MOST_FAILURES:
                self._way = _Way.NONE
            return None
        if count is None or not max(1, least_tokens(size)) <= count <= MOST_TOKENS:
            self._way = _Way.NONE
            return None
        self._failures = 0
        return count if self._confirmed else count + _MARGIN

    async def _count(self, body: Mapping[str, Any]) -> int | None:
        if self._way is _Way.UNKNOWN and not may_count(cards_of(await self._wire.get(MODELS, timeout=MODELS_TIMEOUT))):
            return None
        names = ("model", "messages", "tools", *_TEMPLATE_SETTINGS)
        asked = {"add_generation_prompt": True} | {name: body[name] for name in names if name in body}
        if self._way is not _Way.TEMPLATE:
            answer = await self._post("/tokenize", asked)
            if (count := _whole(answer.get("count"))) is not None:
                self._way = _Way.COUNT
                return count
            if self._way is _Way.COUNT or answer.get("tokens") != []:
                return None
        # llama.cpp looks for `content` alone, and makes no tokens of a conversation.
        prompt = (await self._post("/apply-template", asked)).get("prompt")
        if not isinstance(prompt, str):
            return None
        text = {"content": prompt, "add_special": True, "parse_special": True}
        tokens = (await self._post("/tokenize", text)).get("tokens")
        if not isinstance(tokens, list):
            return None
        self._way = _Way.TEMPLATE
        return len(tokens)

    async def _post(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self._wire.post(self._endpoint.beside(path), body, timeout=_TIMEOUT)


def may_count(cards: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a list of models is that of a server with a tokenizer. Others are asked for nothing but answers."""
    return any("max_model_len" in card or card.get("owned_by") in _WITH_TOKENIZER for card in cards)


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
