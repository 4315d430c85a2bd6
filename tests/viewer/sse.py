"""A browser's side of server-sent events, with the rules of the standard that matter here."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Page:
    """What a page that follows runs knows, merged as the page merges it."""

    nodes: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] | None = None
    rows: dict[str, Any] = field(default_factory=dict)
    last_id: str | None = None
    bye: str | None = None
    problem: str | None = None
    writing: bool = True

    def take(self, event: str, data: Any) -> None:
        """Take in an event."""
        if event == "nodes":
            if data["whole"]:
                self.nodes = {}
            self.nodes |= {node["id"]: node for node in data["nodes"]}
            if data["head"] is not None:
                self.head = data["head"] if data["whole"] else {**(self.head or {}), **data["head"]}
            self.problem, self.writing = data["problem"], data["writing"]
        elif event == "rows":
            self.rows |= {row["file"]: row for row in data["rows"]}
            for name in data["gone"]:
                del self.rows[name]
        elif event == "bye":
            self.bye = data["reason"]
        else:
            raise AssertionError(event)


@dataclass
class Events:
    """An open stream."""

    response: http.client.HTTPResponse
    page: Page

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Event by event, each already merged into the page."""
        name, data = "message", ""
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            key, _, value = line.partition(": ")
            if key == "event":
                name = value
            elif key == "data":
                data += value
            elif key == "id":
                self.page.last_id = value
            elif not line and data:
                content = json.loads(data)
                self.page.take(name, content)
                yield name, content
                name, data = "message", ""

    def next(self) -> tuple[str, Any]:
        """The next one."""
        return next(iter(self))


def request(url: str, *, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer; nothing is followed or added."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@contextmanager
def following(url: str, page: Page | None = None, **headers: str) -> Iterator[Events]:
    """Follow the events at a URL; `page` goes on with what it has, as a browser that connects anew."""
    page = page or Page()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if page.last_id is not None:
            sent["Last-Event-ID"] = page.last_id
        connection.request("GET", parts.path + (f"?{parts.query}" if parts.query else ""), headers=sent)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        assert response.getheader("Content-Type", "").startswith("text/event-stream")
        yield Events(response, page)
    finally:
        connection.close()
