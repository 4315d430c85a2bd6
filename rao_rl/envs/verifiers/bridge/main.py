"""The loop of the bridge: a JSON object a line, in at stdin and out at stdout. Requests are answered as they get ready."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from .refusals import Refused, Unknown
from .tasksets import Failed, Opened, check_version
from .toolsets import ToolRaised, Tools

_LONGEST_LINE = 256 * 1024 * 1024
_KINDS = ((Unknown, "unknown"), (Refused, "refused"), (ToolRaised, "tool"))


class Bridge:
    """Answers requests. Each names its taskset, so that a bridge that was started anew can go on."""

    def __init__(self, vf: Any) -> None:
        self._vf = vf
        self._opened: dict[str, Opened] = {}
        self._tools: dict[str, asyncio.Task[Tools]] = {}

    async def answer(self, request: Mapping[str, Any]) -> Any:
        """The value of a request."""
        operation = request["op"]
        if operation == "close":
            if (ready := self._tools.pop(request["session"], None)) is not None:
                await (await ready).close()
            return None
        opened = self._open(request["taskset"], request["config"])
        if operation == "tasks":
            return opened.described(request["first"], request["end"])
        if operation == "tools":
            try:
                tools = await opened.tools(0)
            except IndexError:
                raise Refused("it has no tasks") from None
            try:
                return tools.described()
            finally:
                await tools.close()
        if operation == "call":
            tools = await self._session(opened, request)
            return _plain(await tools.call(request["tool"], request["arguments"]))
        if operation == "score":
            return await opened.score(request["index"], request["answer"], request["calls"], request["timeout"])
        raise Failed(f"there is no operation {operation!r}")

    def _open(self, name: str, config: Mapping[str, Any]) -> Opened:
        key = json.dumps([name, config], sort_keys=True)
        if key not in self._opened:
            self._opened[key] = Opened(self._vf, name, config)
        return self._opened[key]

    async def _session(self, opened: Opened, request: Mapping[str, Any]) -> Tools:
        """The tools of an attempt, set up at its first call; calls that come meanwhile wait."""
        ready = self._tools.get(request["session"])
        if ready is None:
            ready = self._tools[request["session"]] = asyncio.ensure_future(opened.tools(request["index"]))
        return await ready


def _plain(value: Any) -> Any:
    """What a tool returned, as JSON holds it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return str(value)
    return value


async def _serve(bridge: Bridge, requests: int, answers: Any) -> None:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    with os.fdopen(requests, "rb", buffering=0) as pipe:
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        running: set[asyncio.Task[None]] = set()

        async def respond(request: Mapping[str, Any]) -> None:
            try:
                answer: dict[str, Any] = {"id": request["id"], "value": await bridge.answer(request)}
                line = json.dumps(answer)
            except Exception as error:
                kind = next((name for cls, name in _KINDS if isinstance(error, cls)), "failed")
                text = (
                    str(error)
                    if isinstance(error, Refused | Failed | ToolRaised)
                    else f"{type(error).__name__}: {error}"
                )
                line = json.dumps({"id": request["id"], "error": {"kind": kind, "message": " ".join(text.split())}})
            answers.write(line + "\n")
            answers.flush()

        while line := await reader.readline():
            task = asyncio.create_task(respond(json.loads(line)))
            running.add(task)
            task.add_done_callback(running.discard)


def main() -> None:
    """Say whether verifiers is here, and then answer until stdin ends."""
    # What the taskset's code prints must not get between the answers: its stdout is stderr, its stdin is empty.
    requests, answers = os.dup(0), os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    problem: str | None
    try:
        import verifiers
        import verifiers.v1 as vf
    except ImportError as error:
        version = getattr(sys.modules.get("verifiers"), "__version__", None)
        problem = (
            f"verifiers {version} is too old" if version and "v1" in str(error) else f"{type(error).__name__}: {error}"
        )
        vf = None
    else:
        lacks = check_version(vf)
        problem = lacks and f"verifiers {getattr(verifiers, '__version__', '?')} has no {lacks}"
    answers.write(json.dumps({"ready": problem is None, "problem": problem}) + "\n")
    answers.flush()
    if vf is None or problem is not None:
        return
    try:
        asyncio.run(_serve(Bridge(vf), requests, answers))
    except (BrokenPipeError, KeyboardInterrupt):
        return
