"""How a server of ours is run."""

from __future__ import annotations

import ipaddress
import math
import re
from dataclasses import dataclass, field

from recursive_agent.errors import ConfigurationError

KEEP_ALIVE_SECONDS = 75
"""More than the 60 s of nginx and of Amazon's load balancers."""
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._~-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """How a server of ours is run. Raises ConfigurationError where that makes no sense.

    Requests must carry one of `api_keys`, where there are any. A body has at most `max_body_bytes`, decompressed too, and
    must arrive within `body_seconds`. At most `max_concurrency` requests run at once and `max_queue` wait. On SIGTERM those
    that run have `drain_seconds` to end. A connection without a request is kept for `keep_alive_seconds`: longer than a load
    balancer keeps it, which otherwise sends a request into a connection that is just being closed. Pages in a browser may
    ask from `allowed_origins` ("*": from everywhere).
    """

    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    max_body_bytes: int = 4 << 20
    body_seconds: float = 60.0
    max_concurrency: int = 32
    max_queue: int = 256
    drain_seconds: float = 30.0
    keep_alive_seconds: int = KEEP_ALIVE_SECONDS
    allowed_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", plain_host(self.host))
        object.__setattr__(self, "allowed_origins", tuple(map(plain_origin, self.allowed_origins)))
        if any(not key or not key.isascii() or not key.isprintable() or " " in key for key in self.api_keys):
            raise ConfigurationError("An API key must be printable ASCII without spaces, and not empty.")
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"The port must lie between 0 and 65535, not be {self.port}.")
        counts = (("max_body_bytes", 1), ("max_concurrency", 1), ("max_queue", 0), ("keep_alive_seconds", 1))
        for name, least in counts:
            if getattr(self, name) < least:
                raise ConfigurationError(f"{name} must be at least {least}, not {getattr(self, name)}.")
        if not 0 < self.body_seconds < math.inf:
            raise ConfigurationError(f"body_seconds must be more than 0 and finite, not {self.body_seconds:g}.")
        if not 0 <= self.drain_seconds < math.inf:
            raise ConfigurationError(f"drain_seconds must be at least 0 and finite, not {self.drain_seconds:g}.")

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this very machine reach the server."""
        return is_loopback(self.host)


def plain_host(host: str) -> str:
    """A name or an address as sockets take it: an IPv6 address without the brackets that it has in a URL.

    Raises ConfigurationError for what is a URL or holds a port.
    """
    host = host.strip()
    bare = host.removeprefix("[").removesuffix("]")
    if (host.startswith("["), host.endswith("]")) == (True, True) and _is_ipv6(bare):
        return bare.replace("%25", "%", 1)  # as a URL writes the zone
    if not _is_ipv6(host) and any(sign in host for sign in "/:[]@?# "):
        raise ConfigurationError(
            f"The host is a name or an address alone (127.0.0.1, ::1, localhost), not {host!r}; give the port by itself."
        )
    return host


def reached_at(host: str) -> str:
    """How a URL of this machine names a host that a server listens on; for all addresses that is the loopback one."""
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host.replace('%', '%25')}]" if ":" in host else host


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def plain_origin(origin: str) -> str:
    """An origin as browsers send it: in small letters, without the port that its scheme has anyway.

    Raises ConfigurationError for what no browser sends.
    """
    plain = origin.strip().lower().rstrip("/")
    if plain in ("*", "null"):
        return plain
    if not _ORIGIN.fullmatch(plain):
        raise ConfigurationError(
            f"An allowed origin is written as https://chat.example or http://localhost:3000, without a path or a wildcard "
            f"in it, or * for all; not {origin!r}."
        )
    scheme = plain.partition("://")[0]
    return plain.removesuffix(_PORTS.get(scheme, "/"))


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this very machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_exposure(settings: ServerSettings) -> None:
    """Raises ConfigurationError where other machines could use the server without a key."""
    if not settings.api_keys and not settings.is_loopback:
        raise ConfigurationError(
            f"A server on {settings.host} can be reached from other machines, so it needs an API key: set one (--api-key, "
            "api_keys), or listen on 127.0.0.1."
        )
