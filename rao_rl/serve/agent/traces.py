"""The recorded runs of a server, by id."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import FastAPI
from fastapi import Path as PathParameter
from fastapi.responses import StreamingResponse

from recursive_agent.trace.folder import SUFFIX

from ..http.errors import ApiError

ID = r"^[0-9a-f]{1,64}$"
_PIECE = 1 << 16


class Traces:
    """The trace files of a folder (None: no traces are kept)."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory

    @property
    def kept(self) -> bool:
        """Whether there are any."""
        return self._directory is not None

    async def find(self, run: str) -> Path | None:
        """The file of a run."""
        return None if self._directory is None else await anyio.to_thread.run_sync(_find, self._directory, run)

    async def text(self, run: str) -> str | None:
        """What the file of a run holds, as far as the run has come."""
        path = await self.find(run)
        return None if path is None else await anyio.Path(path).read_text("utf-8")


def add_traces(app: FastAPI, directory: Path | None) -> None:
    """Serve the trace files of `directory` (None: no traces are kept) as /v1/traces/{run}."""
    traces = Traces(directory)

    @app.get(
        "/v1/traces/{run}",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
                "description": "The trace: an event a line, as far as the run has come.",
            }
        },
    )
    async def trace(run: Annotated[str, PathParameter(json_schema_extra={"pattern": ID})]) -> StreamingResponse:
        """The trace of a run; `rao trace show` reads it. Whoever has a key may read every trace."""
        if not traces.kept:
            raise ApiError(404, "This server keeps no traces.", code="no_traces")
        found = await traces.find(run)
        if found is None:
            raise ApiError(404, "There is no such run.", param="run", code="run_not_found")
        return StreamingResponse(_pieces(found), media_type="application/x-ndjson")


def _find(directory: Path, run: str) -> Path | None:
    """The trace of the run with this id."""
    # An id comes from outside: nothing but hexadecimal digits may become part of a pattern, or of a path.
    if re.fullmatch(ID, run) is None or run.endswith("\n"):
        return None
    return next(directory.glob(f"*-{run}{SUFFIX}"), None)


async def _pieces(path: Path) -> AsyncGenerator[bytes, None]:
    async with await anyio.open_file(path, "rb") as file:
        while piece := await file.read(_PIECE):
            yield piece
