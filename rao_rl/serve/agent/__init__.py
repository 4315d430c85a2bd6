"""The recursive agent behind an OpenAI-compatible API. Needs the extra `serve`."""

from .app import RUN_HEADER, Prepare, agent_app

__all__ = ["RUN_HEADER", "Prepare", "agent_app"]
