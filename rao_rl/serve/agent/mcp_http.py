"""The agent's MCP endpoint beside the OpenAI-compatible API: streamable HTTP at /mcp, behind the same keys."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI
from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp, StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route

PATH = "/mcp"
_MOST_SESSIONS = 1_000


def add_mcp(app: FastAPI, server: Server[Any]) -> AbstractAsyncContextManager[None]:
    """Serve `server` at /mcp of an application of `make_app`; what is returned must be entered while it serves."""
    settings = app.state.settings
    # Names of this host are checked with the keys, for the whole application. A page in a browser must ask before it may send
    # JSON, and is refused unless its site is allowed.
    manager = StreamableHTTPSessionManager(
        server,
        security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=settings.max_body_bytes,
        max_sessions=_MOST_SESSIONS,
    )
    # Without GET: nothing is sent outside of answers, and a stream that is always open would hold up every shutdown.
    app.router.routes.append(Route(PATH, endpoint=StreamableHTTPASGIApp(manager), methods=["POST", "DELETE"]))
    return manager.run()
