"""Before a server takes requests, and when it does: a port to listen on, and how the server is used."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Sequence

from recursive_agent.errors import ConfigurationError

from ..text import clean


def announce(url: str, model: str, *, keys: bool, quiet: bool, about: Sequence[str] = ()) -> None:
    """Print the URL of a server that is ready, which ends in /v1, on stdout, and on stderr how it is used.

    `keys`: whether clients need an API key. `about` are lines to show first.
    """
    if not quiet:
        lines = [*about, "point an application at it with", f"  export OPENAI_BASE_URL={shlex.quote(url)}"]
        lines += [f"  export RAO_MODEL={shlex.quote(model)}"]
        if keys:
            lines += ["  export OPENAI_API_KEY=…   (a key of the server)"]
        print(f"\nrao: {clean(chr(10).join(lines))}\n", file=sys.stderr, flush=True)
    print(url, flush=True)


def free_port(host: str, port: int) -> int:
    """`port`, or a free one where that is 0. Raises ConfigurationError where nothing can listen there."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
            return int(trial.getsockname()[1])
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"Cannot listen on {host} port {port} ({reason}); choose another host or port."
        ) from None
