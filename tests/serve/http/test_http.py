"""What every server of ours shares, over real sockets: settings, keys, bodies, errors, and the document of it all."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from rao_rl.serve.http import ServerSettings, check_exposure, serving
from recursive_agent.errors import ConfigurationError

from .applications import JSON, KEY, Server, error_of

pytestmark = pytest.mark.anyio

# Settings


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_a_server_that_others_can_reach_needs_a_key(host: str) -> None:
    with pytest.raises(ConfigurationError, match="API key"):
        check_exposure(ServerSettings(host=host))
    check_exposure(ServerSettings(host=host, api_keys=(KEY,)))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "::1", "localhost"])
def test_a_server_for_this_machine_needs_none(host: str) -> None:
    check_exposure(ServerSettings(host=host))


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_keys": ("",)}, {"api_keys": ("a b",)}, {"api_keys": ("schlüssel",)}, {"port": 70000},
        {"max_body_bytes": 0}, {"max_concurrency": 0}, {"max_queue": -1}, {"body_seconds": 0}, {"drain_seconds": -1},
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ServerSettings(**wrong)


def test_keys_do_not_show() -> None:
    assert KEY not in repr(ServerSettings(api_keys=(KEY,)))


def test_an_application_is_made_without_an_event_loop_and_loads_no_torch() -> None:
    lines = """
import anyio, os, signal, sys
from rao_rl.serve.engine import engine_app
from rao_rl.serve.http import ServerSettings, serve
from recursive_agent.model.embedded import EmbeddedModel
settings = ServerSettings(port=0)
app = engine_app(EmbeddedModel(), settings)
anyio.run(lambda: serve(app, settings, ready=lambda url: os.kill(os.getpid(), signal.SIGTERM)))
assert "torch" not in sys.modules
sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


async def test_an_address_that_is_taken_is_said_so() -> None:
    server = Server()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServerSettings(port=taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match=r"Cannot listen on 127\.0\.0\.1 port"):
            async with serving(server.app, settings):
                pass


# Keys


async def test_only_requests_with_a_key_pass() -> None:
    server = Server(api_keys=(KEY, "key-two"))
    async with server.client() as client:
        for path in ("/things/x", "/nowhere", "/metrics", "/openapi.json"):
            for given in (
                None,
                "",
                "Bearer",
                "Bearer wrong",
                f"Basic {KEY}",
                KEY,
                "Bearer key-one2",
                "Bearer ké",
            ):
                headers = {} if given is None else {b"authorization": given.encode("latin-1")}
                response = await client.get(path, headers=headers)
                assert response.status_code == 401, (path, given)
                assert response.headers["www-authenticate"] == "Bearer"
                assert error_of(response)["code"] == "invalid_api_key"
        for key in (KEY, "key-two"):
            assert (await client.get("/things/x", headers={"authorization": f"Bearer {key}"})).json() == "x"
        assert (await client.get("/health")).json() == {"status": "ok"}


async def test_a_server_without_keys_answers_only_under_a_loopback_name() -> None:
    async with Server().client() as client:
        for host in ("localhost", "localhost:1234", "127.0.0.1", "[::1]", "[::1]:80"):
            assert (await client.get("/things/x", headers={"host": host})).status_code == 200, host
        for host in ("evil.example", "evil.example:80", "localhost.evil.example", ""):
            response = await client.get("/things/x", headers={"host": host})
            assert response.status_code == 403, host
            error_of(response)


# Bodies

MALFORMED = {
    "empty": b"",
    "cut off": b'{"text": "a',
    "no JSON": b"text=a",
    "NaN": b'{"text": "a", "anything": NaN}',
    "infinity": b'{"text": "a", "anything": -Infinity}',
    "beyond a double": b'{"text": "a", "anything": [1e999]}',
    "an integer beyond a double": b'{"text": "a", "anything": {"n": -1e400}}',
    "endless integer": b'{"text": "a", "anything": ' + b"9" * 5000 + b"}",
    "deeply nested": b'{"text": "a", "anything": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "nested objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "no UTF-8": b'{"text": "\xff\xfe"}',
    "UTF-16": '{"text": "a"}'.encode("utf-16"),
    "lone surrogate": rb'{"text": "\ud800"}',
    "lone surrogate in anything": rb'{"text": "a", "anything": {"k\udfff": 1}}',
    "two documents": b'{"text": "a"} {"text": "b"}',
    "wrong type": b'{"text": 1}',
    "no object": b"[1, 2]",
    "null": b"null",
    "field missing": b"{}",
}


async def test_malformed_bodies_are_refused_and_nothing_else_happens() -> None:
    server = Server()
    async with server.client() as client:
        for name, content in MALFORMED.items():
            response = await client.post("/echo", content=content, headers=JSON)
            assert response.status_code == 400, name
            assert error_of(response)["type"] == "invalid_request_error"
        assert server.bodies == []
        assert (await client.post("/echo", json={"text": "ä😀"})).json() == {
            "text": "ä😀",
            "anything": None,
            "parts": [],
        }


async def test_a_body_that_is_not_declared_json_is_not_read_as_json() -> None:
    server = Server()
    async with server.client() as client:
        for kind in (None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "x"):
            headers = {} if kind is None else {"content-type": kind}
            response = await client.post("/echo", content=b'{"text": "a"}', headers=headers)
            assert response.status_code == 400, kind
            assert "application/json" in error_of(response)["message"]
    assert server.bodies == []


async def test_large_numbers_that_are_numbers_pass() -> None:
    server = Server()
    numbers = [1e308, 10**400, 5e-324, "1e999"]
    async with server.client() as client:
        response = await client.post("/echo", json={"text": "a", "anything": numbers})
    assert response.status_code == 200
    assert server.bodies[0].anything == numbers


@pytest.mark.parametrize("size", [1001, 2_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_refused_however_it_is_sent(size: int, chunked: bool) -> None:
    server = Server(max_body_bytes=1000)

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, size, 65536):
            yield b" " * min(65536, size - start)

    async with server.client() as client:
        response = await client.post("/echo", content=parts() if chunked else b" " * size, headers=JSON)
        assert response.status_code == 413
        assert "1000 bytes" in error_of(response)["message"]
        fits = b'{"text": "a"}'.ljust(1000)
        assert (await client.post("/echo", content=fits, headers=JSON)).status_code == 200
    assert len(server.bodies) == 1


async def test_a_body_that_never_comes_is_not_waited_for() -> None:
    server = Server(body_seconds=0.1)
    async with server.client() as client:
        async with await anyio.connect_tcp("127.0.0.1", client.base_url.port or 0) as stream:
            await stream.send(b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
            await stream.send(b'Content-Length: 100\r\n\r\n{"text":')
            with anyio.fail_after(60):
                assert (await stream.receive()).startswith(b"HTTP/1.1 408 ")
    assert server.bodies == []


async def test_what_is_wrong_with_a_field_is_said_without_its_value() -> None:
    async with Server().client() as client:
        response = await client.post("/echo", json={"text": ["a secret"]})
        nested = error_of(await client.post("/echo", json={"text": "a", "parts": ["a", {"text": 1}]}))
        missing = error_of(await client.post("/echo", json={"text": "a", "parts": [{}]}))
    error = error_of(response)
    assert error["param"] == "text"
    assert "valid string" in error["message"]
    assert "secret" not in response.text
    assert nested["param"] == "parts.1"
    assert "parts.1.text: Input should be a valid string" in nested["message"]
    assert "parts.0.text: this field is required" in missing["message"]


# Failures


async def test_every_failure_has_the_same_shape() -> None:
    async with Server().client() as client:
        assert error_of(await client.get("/nowhere"))["type"] == "not_found_error"
        wrong_method = await client.get("/echo")
        assert wrong_method.status_code == 405
        assert wrong_method.headers["allow"] == "POST"
        error_of(wrong_method)


async def test_a_fault_of_the_server_is_told_as_such_and_keeps_its_matters_private(caplog: Any) -> None:
    async with Server().client() as client:
        response = await client.get("/things/broken")
        assert (await client.get("/things/whole")).status_code == 200
    assert response.status_code == 500
    assert error_of(response)["type"] == "server_error"
    assert "private" not in response.text
    assert "a private matter" in caplog.text


# The document


@pytest.mark.parametrize("keys", [(), (KEY,)])
async def test_the_document_tells_errors_and_keys(keys: tuple[str, ...]) -> None:
    async with Server(api_keys=keys).client(key=KEY) as client:
        document = (await client.get("/openapi.json")).json()
    assert "HTTPValidationError" not in json.dumps(document)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert "422" not in operation["responses"]
            for status in ("400", "401", "404", "405", "413", "429", "500", "503"):
                (schema,) = operation["responses"][status]["content"].values()
                assert schema["schema"]["$ref"].endswith("/ErrorResponse")
            assert operation.get("security") == ([] if keys and path == "/health" else None)
    assert ("securitySchemes" in document["components"]) == bool(keys)
    assert ("security" in document) == bool(keys)
