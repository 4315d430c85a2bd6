"""Which endpoint and model to use: arguments first, then the environment."""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError

OPENAI_URL = "https://api.openai.com/v1"
_PATHS = ("/chat/completions", "/completions", "/responses", "/models", "/embeddings")
"""Paths below a base URL, which documents of providers show along with it."""
PLACEHOLDER_KEY = "none"
"""Sent where a local endpoint asks for no key: the protocol wants one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model at an OpenAI-compatible base URL. The repr leaves out the key, and credentials and query of the URL."""

    model: str
    base_url: str
    api_key: str = field(repr=False)
    session_header: str | None = None
    """The header in which calls name the agent that they belong to, for a load balancer that sends those of one agent to one
    server (vLLM's router: X-Session-ID; NVIDIA Dynamo: X-Dynamo-Session-ID); None: as the provider is known to want it."""

    def __repr__(self) -> str:
        return f"Endpoint(model={self.model!r}, base_url={self.shown_url!r})"

    @property
    def shown_url(self) -> str:
        """The base URL without credentials or query, for messages and repr."""
        return show_url(self.base_url)

    def url(self, path: str) -> str:
        """The URL of a path below the base URL; a query of the base URL (`?api-version=…`) goes along."""
        parts = urlsplit(self.base_url)
        host = parts.netloc.rpartition("@")[2]  # name and password go into a header
        return parts._replace(netloc=host, path=parts.path.rstrip("/") + path, fragment="").geturl()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header: the key, or name and password of the base URL where there is no key."""
        login, at, _ = urlsplit(self.base_url).netloc.rpartition("@")
        if at and self.api_key == PLACEHOLDER_KEY:
            return f"Basic {b64encode(unquote(login).encode()).decode()}"
        return f"Bearer {self.api_key}"

    @property
    def password(self) -> str | None:
        """The password within the base URL, None where there is none."""
        password = urlsplit(self.base_url).password
        return unquote(password) if password else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """The key and the password, where there are any (the placeholder is no secret, and an ordinary word)."""
        key = () if self.api_key == PLACEHOLDER_KEY else (self.api_key,)
        return key if self.password is None else (*key, self.password)

    def beside(self, path: str) -> str:
        """The URL of a path next to /v1 (`/tokenize` of vLLM, say)."""
        parts = urlsplit(self.base_url)
        host, above = parts.netloc.rpartition("@")[2], parts.path.rstrip("/").removesuffix("/v1")
        return parts._replace(netloc=host, path=above + path, fragment="").geturl()

    @property
    def is_azure(self) -> bool:
        """Whether it belongs to Azure, which takes the key in another header."""
        return (urlsplit(self.base_url).hostname or "").endswith(".azure.com")

    @property
    def is_loopback(self) -> bool:
        """Whether the endpoint is on this very machine, so that no proxy can stand between."""
        host = urlsplit(self.base_url).hostname or ""
        return host == "localhost" or _address_is(host, "is_loopback")


def resolve_endpoint(model: str | None = None, base_url: str | None = None, api_key: str | None = None) -> Endpoint:
    """The endpoint for these arguments; RAO_MODEL, OPENAI_BASE_URL and OPENAI_API_KEY replace missing ones.

    A local endpoint (loopback, private address, host name without a dot) needs no key. RAO_SESSION_HEADER names the header of
    `Endpoint.session_header`. If something is missing, raises ConfigurationError, which says what to do; also for several
    base URLs (see `resolve_endpoints`).
    """
    endpoints = resolve_endpoints(model, base_url, api_key)
    if len(endpoints) > 1:
        raise ConfigurationError(
            f"base_url (--base-url, OPENAI_BASE_URL) names {len(endpoints)} endpoints, and only one can be used here."
        )
    return endpoints[0]


def resolve_endpoints(
    model: str | None = None, base_url: str | Sequence[str] | None = None, api_key: str | None = None
) -> tuple[Endpoint, ...]:
    """The endpoints of one model; like `resolve_endpoint`, for several base URLs: a sequence, or text with commas.

    All get the same key.
    """
    urls = base_urls(base_url or os.environ.get("OPENAI_BASE_URL"))
    if len(urls) < 2:
        return (_resolve(model, urls[0] if urls else None, api_key),)
    return tuple(_resolve(model, url, api_key) for url in urls)


def base_urls(base_url: str | Sequence[str] | None) -> tuple[str, ...]:
    """The URLs that a setting names: as a sequence, or as text with commas between them (one in a URL is written %2C there)."""
    parts = base_url.split(",") if isinstance(base_url, str) else base_url or ()
    urls = (part.strip() for part in parts)
    return tuple(url for url in urls if url)


def _resolve(model: str | None, base_url: str | None, api_key: str | None) -> Endpoint:
    model = model or os.environ.get("RAO_MODEL")
    api_key = api_key or os.environ.get("OPENAI_API_KEY")
    if not model:
        raise ConfigurationError("No model is named: pass model (--model NAME), or set RAO_MODEL.")
    if not base_url:
        if not api_key:
            raise ConfigurationError(
                "No endpoint is configured: pass base_url (--base-url URL, http://localhost:8000/v1 for a local vLLM) or "
                "set OPENAI_BASE_URL; to use OpenAI, set OPENAI_API_KEY."
            )
        base_url = OPENAI_URL
    _check_url(base_url)
    if not api_key:
        if not _is_local(base_url) and "@" not in urlsplit(base_url.strip()).netloc:
            raise ConfigurationError(
                f"No API key for {show_url(base_url)}: set OPENAI_API_KEY, or pass api_key in Python (any text if the "
                "endpoint needs none)."
            )
        api_key = PLACEHOLDER_KEY
    if not (api_key.isascii() and api_key.isprintable()):
        raise ConfigurationError(
            "The API key contains characters that HTTP headers do not allow; check that you copied all of it."
        )
    return Endpoint(model, _trimmed(base_url), api_key, _session_header())


def show_url(url: str) -> str:
    """A URL without credentials, query and fragment; other text unchanged, shortened."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.rpartition("@")[2][:80]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def show_urls(base_url: str | Sequence[str]) -> str:
    """All URLs of a setting as `show_url` shows them, separated by commas."""
    return ",".join(map(show_url, base_urls(base_url)))


def _session_header() -> str | None:
    name = os.environ.get("RAO_SESSION_HEADER") or None
    if name is not None and not re.fullmatch(r"[A-Za-z0-9-]+", name):
        raise ConfigurationError(
            f"RAO_SESSION_HEADER must be the name of a header, such as X-Session-ID, not {name!r:.80}"
        )
    return name


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url.strip())
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ConfigurationError(
            "base_url (--base-url, OPENAI_BASE_URL) must be an http:// or https:// URL such as http://localhost:8000/v1, "
            f"not {show_url(url)!r}."
        )
    for path in _PATHS:
        if parts.path.rstrip("/").endswith(path):
            whole = parts._replace(path=parts.path.rstrip("/").removesuffix(path)).geturl()
            raise ConfigurationError(
                f"base_url (--base-url, OPENAI_BASE_URL) must end before {path}, which is added to it: use {show_url(whole)}."
            )


def _trimmed(url: str) -> str:
    """Without slashes at the end of the path, and without a fragment, which is never sent."""
    parts = urlsplit(url.strip())
    return parts._replace(path=parts.path.rstrip("/"), fragment="").geturl()


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
