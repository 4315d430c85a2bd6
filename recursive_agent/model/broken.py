"""Turns every exception of the transport libraries into a `Failure` of one attempt."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from .endpoint import Endpoint
from .failures import Failure, Misconfigured, Unreachable, scrub
from .surroundings import Proxy


def broken(error: Exception, endpoint: Endpoint, proxy: Proxy | None, *, answered: bool = False) -> Failure:
    """What an error of the libraries means; `answered` says that the answer had begun."""
    import aiohttp
    import httpx2

    if isinstance(error, Failure):
        return error
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, ssl.SSLCertVerificationError) and not isinstance(link, aiohttp.ClientConnectorError):
            summary = scrub(link.verify_message or str(link), endpoint.api_key)
            return Misconfigured(
                f"The certificate of {endpoint.shown_url} cannot be verified ({summary}); set SSL_CERT_FILE to the "
                "certificates of whoever signed it."
            )
        if isinstance(link, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(link):
            return Misconfigured(
                f"{endpoint.shown_url} does not speak TLS; use an http:// base URL"
                f"{f', or check {proxy}' if proxy else ''}."
            )
    summary = scrub(_summary(chain), endpoint.api_key)
    if proxy is not None:
        summary += f", through {proxy}"
    if isinstance(error, httpx2.UnsupportedProtocol | httpx2.InvalidURL | aiohttp.InvalidURL):
        return Failure(summary, retryable=False)
    return Unreachable(summary, lost=answered or not _never_left(error))


def _summary(chain: list[BaseException]) -> str:
    """The first of the errors that says something, with its kind."""
    kind = type(chain[0]).__name__
    text = next((text for link in chain if (text := str(link).strip())), "no details")
    if kind == "ClientResponseError" or "HttpProcessing" in kind or kind == "RemoteProtocolError":
        return f"it does not speak HTTP as it should: {text}"
    return f"{kind}: {text}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes."""
    import aiohttp

    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        if isinstance(link, aiohttp.ClientConnectorCertificateError):  # names its cause in a field of its own
            link = link.certificate_error
        else:
            link = link.__cause__ or link.__context__


def _never_left(error: Exception) -> bool:
    """Whether a request failed before any of it was sent."""
    import aiohttp
    import httpx2

    return isinstance(
        error,
        aiohttp.ClientConnectorError
        | aiohttp.ConnectionTimeoutError
        | httpx2.ConnectError
        | httpx2.ConnectTimeout
        | httpx2.PoolTimeout
        | httpx2.ProxyError,
    )
