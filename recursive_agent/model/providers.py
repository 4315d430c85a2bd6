"""Whose an endpoint is, by the names that OpenTelemetry's GenAI conventions give to providers (`gen_ai.provider.name`).

And how it learns which calls belong to one agent, so that it can send them where their prompts are cached.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

UNKNOWN = "openai"
"""For all others, local servers among them: the protocol that is spoken to them."""
_BY_HOST = (
    ("api.openai.com", "openai"),
    ("openai.azure.com", "azure.ai.openai"),
    ("services.ai.azure.com", "azure.ai.inference"),
    ("anthropic.com", "anthropic"),
    ("aiplatform.googleapis.com", "gcp.vertex_ai"),
    ("generativelanguage.googleapis.com", "gcp.gemini"),
    ("amazonaws.com", "aws.bedrock"),
    ("cohere.ai", "cohere"),
    ("cohere.com", "cohere"),
    ("deepseek.com", "deepseek"),
    ("groq.com", "groq"),
    ("cloud.ibm.com", "ibm.watsonx.ai"),
    ("mistral.ai", "mistral_ai"),
    ("moonshot.ai", "moonshot_ai"),
    ("moonshot.cn", "moonshot_ai"),
    ("perplexity.ai", "perplexity"),
    ("x.ai", "x_ai"),
    ("openrouter.ai", "openrouter"),
    ("together.xyz", "together_ai"),
    ("fireworks.ai", "fireworks_ai"),
)
"""The end of a host's name; hosts below it count too."""


class Session(NamedTuple):
    """Where a call names the conversation that it belongs to: in a header, in a field of its body, or nowhere."""

    header: str | None = None
    field: str | None = None


NO_SESSION = Session()
_SESSIONS = (
    ("api.openai.com", Session(field="prompt_cache_key")),
    ("mistral.ai", Session(field="prompt_cache_key")),
    ("fireworks.ai", Session(header="x-session-affinity")),
)
"""Providers whose documents say so. Of servers of one's own nobody can know what stands before them: vLLM's router reads
X-Session-ID, NVIDIA Dynamo X-Dynamo-Session-ID, so that these are a setting (`Endpoint.session_header`)."""


def provider_of(base_url: str) -> str:
    """The provider of the endpoint at this URL."""
    return next((name for end, name in _BY_HOST if _is_below(base_url, end)), UNKNOWN)


def session_of(base_url: str, header: str | None = None) -> Session:
    """Where calls to this URL name their conversation; `header` is the user's choice."""
    if header:
        return Session(header=header)
    return next((session for end, session in _SESSIONS if _is_below(base_url, end)), NO_SESSION)


def _is_below(base_url: str, end: str) -> bool:
    host = (urlsplit(base_url).hostname or "").lower()
    return host == end or host.endswith((f".{end}", f"-{end}"))
