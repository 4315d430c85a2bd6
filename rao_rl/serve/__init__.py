"""Servers: a checkpoint, or the recursive agent itself, behind an OpenAI-compatible API. Needs the extra `serve`."""
