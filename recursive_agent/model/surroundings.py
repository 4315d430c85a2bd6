"""What stands between this machine and an endpoint: proxies and certificates, as the environment names them."""

from __future__ import annotations

import os
import ssl
import urllib.request
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .endpoint import Endpoint, show_url
from .failures import Misconfigured

if TYPE_CHECKING:
    import httpx2

_SOCKS = {"socks": "socks5", "socks5": "socks5", "socks5h": "socks5h"}
"""`socks` is what GNOME writes."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy to go through. `variable` is where it was read."""

    url: str
    variable: str

    def __str__(self) -> str:
        return f"the proxy {show_url(self.url)} ({self.variable})"


def proxy_for(endpoint: Endpoint) -> Proxy | None:
    """The proxy that HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY name for an endpoint; never one for this machine.

    Raises Misconfigured, in one sentence, for a proxy that cannot be used.
    """
    if endpoint.is_loopback:
        return None
    target = urlsplit(endpoint.base_url)
    proxies = urllib.request.getproxies_environment()
    name = target.scheme if proxies.get(target.scheme) else "all"
    url = proxies.get(name, "")
    if not url or _is_excepted(target.hostname or "", target.port):
        return None
    variable = next((key for key in (f"{name}_proxy", f"{name.upper()}_PROXY") if os.environ.get(key)), f"{name}_proxy")
    return _checked(url, variable)


def _is_excepted(host: str, port: int | None) -> bool:
    names = [host] if port is None else [host, f"{host}:{port}"]
    return any(urllib.request.proxy_bypass(name) for name in names)


def _checked(url: str, variable: str) -> Proxy:
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        shown = show_url(url)
    except ValueError:
        raise Misconfigured(
            f"{variable} holds no valid URL of a proxy; write it as http://host:port, or unset it."
        ) from None
    if scheme in _SOCKS:
        if find_spec("socksio") is None:
            raise Misconfigured(
                f"{variable} names the SOCKS proxy {shown}, which needs one more package: pip install 'rao[socks]' "
                "(or unset the variable, or set NO_PROXY for this endpoint)."
            )
    elif scheme not in ("http", "https"):
        raise Misconfigured(
            f"{variable} names the proxy {shown}, and proxies are http://, https://, socks5:// or socks5h:// URLs."
        )
    if not host or port == 0:
        raise Misconfigured(
            f"{variable} holds no valid URL of a proxy ({shown}); write it as http://host:port, or unset it."
        )
    return Proxy(f"{_SOCKS.get(scheme, scheme)}://{url.partition('://')[2]}", variable)


def tls_context(endpoint: Endpoint, proxy: Proxy | None) -> ssl.SSLContext:
    """Certificates to verify endpoints by. Raises Misconfigured where SSL_CERT_FILE or SSL_CERT_DIR name none.

    Where no TLS is spoken they are not read; should the endpoint lead elsewhere after all, no certificate is good enough.
    """
    import httpx2

    try:
        return httpx2.create_ssl_context()
    except (OSError, ValueError) as error:
        if endpoint.base_url.startswith("http://") and (proxy is None or not proxy.url.startswith("https")):
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        raise Misconfigured(_about_certificates(error)) from None


def _about_certificates(error: Exception) -> str:
    for variable in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        if path := os.environ.get(variable):
            return (
                f"{variable} names {path}, and no certificates can be read there ({_said(error)}); point it to a bundle of CA "
                "certificates, or unset it."
            )
    return f"The certificates of this machine cannot be read ({_said(error)}); set SSL_CERT_FILE to a bundle of them."


def _said(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__


def client_proxy(proxy: Proxy) -> httpx2.Proxy:
    """The proxy as the HTTP client takes it. Raises Misconfigured."""
    import httpx2

    try:
        return httpx2.Proxy(proxy.url)
    except Exception:
        raise Misconfigured(
            f"{proxy.variable} holds no valid URL of a proxy ({show_url(proxy.url)}); write it as http://host:port."
        ) from None
