"""The light engine: a checkpoint behind vLLM's protocol on machines without vLLM. Needs the extra `serve`."""

from .app import engine_app

__all__ = ["engine_app"]
