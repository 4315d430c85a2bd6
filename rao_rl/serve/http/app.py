"""An application with everything that our servers share: keys, limits, errors, health, metrics."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Lifespan

from recursive_agent._version import __version__

from .errors import ERRORS, ApiError, install_handlers
from .gate import Gate
from .requests import StrictRoute
from .settings import ServerSettings
from .traffic import OPEN_PATHS, HeadMiddleware, KeyMiddleware, Traffic, TrafficMiddleware


class Health(BaseModel):
    """Whether the server takes requests."""

    status: str


def make_app(title: str, settings: ServerSettings, *, lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """An application with everything our servers share, and no route of its own beyond /health and /metrics.

    `app.state` holds `settings`, `gate` (a `Gate`), `registry` (Prometheus's) and `traffic`. Routes declare
    `responses=ERRORS` by themselves; their bodies are strict JSON (see `StrictRequest`).
    """
    app = FastAPI(
        title=title,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERRORS,
    )
    app.router.route_class = StrictRoute
    registry = CollectorRegistry()
    gate = Gate(settings.max_concurrency, settings.max_queue)
    traffic = Traffic(registry, gate)
    app.state.settings, app.state.gate, app.state.registry, app.state.traffic = settings, gate, registry, traffic
    install_handlers(app)
    app.add_middleware(KeyMiddleware, settings=settings)
    app.add_middleware(TrafficMiddleware, traffic=traffic)
    if settings.allowed_origins:
        # Before the keys, since a browser's first question carries none; and around every refusal, which pages could not
        # read otherwise. Cookies are none of ours, but a proxy before this server may want them.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_credentials="*" not in settings.allowed_origins,
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            allow_private_network=True,
            expose_headers=["Retry-After", "X-Rao-Run"],
        )
    app.add_middleware(HeadMiddleware)  # the last one added is the outermost

    @app.get("/health", tags=["server"])
    async def health() -> Health:
        """Whether the server takes requests."""
        if traffic.draining:
            raise ApiError(503, "The server is shutting down.", code="shutting_down", retry_after=1)
        return Health(status="ok")

    @app.get(
        "/metrics",
        tags=["server"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Metrics."}},
    )
    async def metrics() -> Response:
        """Metrics for Prometheus."""
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    _document(app, secured=bool(settings.api_keys))
    return app


def _document(app: FastAPI, *, secured: bool) -> None:
    """Make the OpenAPI document true: FastAPI knows neither the keys nor that faults of a request give 400, not 422."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for path, methods in document["paths"].items():
                for operation in methods.values():
                    operation["responses"].pop("422", None)
                    if secured and path in OPEN_PATHS:
                        operation["security"] = []
            components = document.setdefault("components", {})
            for name in ("HTTPValidationError", "ValidationError"):
                components.get("schemas", {}).pop(name, None)
            if secured:
                components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
                document["security"] = [{"key": []}]
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way
