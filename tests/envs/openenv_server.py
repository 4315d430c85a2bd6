"""A real websocket server that speaks OpenEnv's protocol, and can break it in every way that tests need."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve

STEP_SCHEMA = {
    "title": "CountAction",
    "type": "object",
    "properties": {
        "amount": {"type": "integer", "description": "how far to go"},
        "way": {"enum": ["up", "down"], "default": "up"},
        "metadata": {"type": "object"},
    },
    "required": ["amount"],
}
MCP_TOOLS = [
    {
        "name": "go",
        "description": "Go up.",
        "input_schema": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]},
    }
]


class Counting:
    """Go from the seed's number to 10; each step gives 0.1 for each number upwards, and the episode ends at 10.

    `fault` names what goes wrong, at the step whose number is `at`, or at the reset (0).
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        self.at = 1
        self.places = 64
        self.mcp = False
        self.open = 0
        self.connections: set[ServerConnection] = set()
        self.asked: list[Any] = []
        self.seeds: list[Any] = []
        self.metadata: Any = {"name": "counting", "description": "Count\nto 10."}
        self.action: Any = STEP_SCHEMA
        self.changed = threading.Condition()
        self.release = threading.Event()
        """What is slow goes on."""

    def page(self, connection: ServerConnection, request: Request) -> Response | None:
        pages = {
            "/schema": {"action": {"title": "CallToolAction"} if self.mcp else self.action},
            "/metadata": self.metadata,
        }
        if request.path == "/ws":
            return None
        found = pages.get(request.path)
        body = b"<html>" if found is None else json.dumps(found).encode()
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        status = HTTPStatus.NOT_FOUND if found is None else HTTPStatus.OK
        return Response(status.value, status.phrase, headers, body)

    def session(self, connection: ServerConnection) -> None:
        with self.changed:
            full = self.open >= self.places
            self.open += not full
            self.connections.add(connection)
        try:
            if full:
                connection.send(error("CAPACITY_REACHED", "Server at capacity"))
                return
            self.play(connection)
        finally:
            with self.changed:
                self.open -= not full
                self.connections.discard(connection)
                self.changed.notify_all()

    def play(self, connection: ServerConnection) -> None:
        count = steps = 0
        for raw in connection:
            message = json.loads(raw)
            kind = message["type"]
            if kind == "close":
                return
            if kind == "reset":
                self.seeds.append(message["data"])
                count = steps = 0
            if kind == "state":
                connection.send(json.dumps({"type": "state", "data": {"step_count": steps}}))
                continue
            if kind == "step" and message["data"].get("type") == "list_tools":
                connection.send(observation({"tools": MCP_TOOLS}))
                continue
            steps += kind == "step"
            if self.fault is not None and steps == self.at:
                if not self.spoil(connection, self.fault):
                    return
                continue
            data = message["data"]
            amount = data["arguments"]["amount"] if data.get("type") == "call_tool" else data.get("amount", 0)
            self.asked.append(data)
            count += -amount if data.get("way") == "down" else amount
            seen: dict[str, Any] = {"count": count}
            if self.mcp and kind == "step":
                seen = {"tool_name": "go", "result": {"data": count}, "error": None}
                if amount < 0:
                    seen["error"] = {"error_type": "execution_error", "message": "only up"}
            connection.send(observation(seen, amount / 10 if kind == "step" else None, count >= 10))

    def spoil(self, connection: ServerConnection, fault: str) -> bool:
        """Whether the session goes on."""
        answers = {
            "nonsense": "<html>502</html>",
            "list": "[1]",
            "other kind": json.dumps({"type": "state", "data": {}}),
            "no observation": json.dumps({"type": "observation", "data": {"reward": 1}}),
            "nan": observation({}, float("nan")),
            "text": observation({}, "good"),
            "no rewards": observation({}, None, True),
            "transport": observation({"error": {"error_type": "transport_error", "message": "lost"}}),
            "refused": error("VALIDATION_ERROR", "Invalid message", [{"loc": ["amount"], "msg": "too much"}]),
            "raised": error("EXECUTION_ERROR", "the wall is in the way"),
            "broken": error("SESSION_ERROR", "out of memory"),
        }
        if fault in answers:
            connection.send(answers[fault])
            return True
        if fault == "slow":
            self.release.wait(30)
        return False  # "dies"


def observation(seen: Any, reward: Any = None, done: bool = False) -> str:
    return json.dumps({"type": "observation", "data": {"observation": seen, "reward": reward, "done": done}})


def error(code: str, message: str, errors: Any = None) -> str:
    return json.dumps({"type": "error", "data": {"code": code, "message": message, "errors": errors}})


@contextmanager
def counting() -> Iterator[tuple[Counting, str]]:
    """The server and its URL."""
    world = Counting()
    server: Server = serve(world.session, "127.0.0.1", 0, process_request=world.page, close_timeout=1)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield world, f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    finally:
        world.release.set()
        server.shutdown()
        thread.join(10)
        with world.changed:
            for connection in world.connections:  # those of episodes that nobody scored
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)
            assert world.changed.wait_for(lambda: world.open == 0, 10), "a session stayed open"
