"""Whose an endpoint is, by the names that OpenTelemetry's GenAI conventions give to providers (`gen_ai.provider.name`)."""

from __future__ import annotations

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


def provider_of(base_url: str) -> str:
    """The provider of the endpoint at this URL."""
    host = (urlsplit(base_url).hostname or "").lower()
    for end, name in _BY_HOST:
        if host == end or host.endswith((f".{end}", f"-{end}")):
            return name
    return UNKNOWN
