"""Which endpoint and model to use: arguments first, then the environment."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from ..errors import ConfigurationError

OPENAI_URL = "https://api.openai.com/v1"
PLACEHOLDER_KEY = "none"
"""Sent where a local endpoint asks for no key: the protocol wants one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at an OpenAI-compatible base URL. The key is no part of the repr."""

    model: str
    base_url: str
    api_key: str = field(repr=False)

    @property
    def shown_url(self) -> str:
        """The base URL without credentials or query, for messages and repr."""
        return show_url(self.base_url)

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this very machine, so that no proxy can stand between."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "localhost" or _address_is(host, "is_loopback")


def resolve_endpoint(model: str | None = None, base_url: str | None = None, api_key: str | None = None) -> Endpoint:
    """Fill in what was not given from RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY.

    A local endpoint (loopback, private address, bare host name) needs no key. Raises ConfigurationError, in one
    sentence that says what to do, where something is missing.
    """
    model = model or os.environ.get("RAO_MODEL")
    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    api_key = api_key or os.environ.get("OPENAI_API_KEY")
    if not model:
        raise ConfigurationError("No model is named: pass model=… or set RAO_MODEL.")
    if not base_url:
        if not api_key:
            raise ConfigurationError(
                "No endpoint is configured: pass base_url=… (http://localhost:8000/v1 for a local vLLM, say) or set "
                "OPENAI_BASE_URL, or set OPENAI_API_KEY to use OpenAI."
            )
        base_url = OPENAI_URL
    _check_url(base_url)
    if not api_key:
        if not _is_local(base_url):
            raise ConfigurationError(
                f"No API key for {show_url(base_url)}: pass api_key=… or set OPENAI_API_KEY (any text will do where "
                "the endpoint asks for none)."
            )
        api_key = PLACEHOLDER_KEY
    if not (api_key.isascii() and api_key.isprintable()):
        raise ConfigurationError("The API key holds characters that no HTTP header can carry; was it copied whole?")
    return Endpoint(model, base_url.rstrip("/"), api_key)


def show_url(url: str) -> str:
    """A URL without credentials, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(
            f"base_url must be an http:// or https:// URL such as http://localhost:8000/v1, not {show_url(url)!r}."
        )


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if "." not in host and ":" not in host:
        return True  # localhost, and the service names of container networks
    return host.endswith((".local", ".localhost", ".internal")) or _address_is(host, "is_private")


def _address_is(host: str, trait: str) -> bool:
    try:
        return bool(getattr(ipaddress.ip_address(host), trait))
    except ValueError:
        return False
