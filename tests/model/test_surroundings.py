"""Proxies, certificates, base URLs, time-outs and keys: what stands around an endpoint."""

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme

from recursive_agent.errors import ConfigurationError, EndpointUnavailable, ModelError
from recursive_agent.model import Endpoint, Retries, attempt_timeout, connect, resolve_endpoint
from recursive_agent.model.failures import Misconfigured, scrub
from recursive_agent.model.surroundings import proxy_for
from recursive_agent.model.wire import Wire

from .conftest import USER
from .raw import answering, chat, http, model_at, refusal

REMOTE = Endpoint("m", "https://api.example.com/v1", "k")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


async def ask(model: Any) -> Any:
    conversation = model.conversation()
    conversation.add(USER)
    return await conversation.complete(max_tokens=20)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:1"}, "http://proxy:1"),
        ({"https_proxy": "proxy:1"}, "http://proxy:1"),
        ({"HTTP_PROXY": "http://proxy:1"}, None),
        ({"ALL_PROXY": "http://proxy:1"}, "http://proxy:1"),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": "http://proxy:1"}, "http://proxy:1"),
        ({"ALL_PROXY": "socks://proxy:1/"}, "socks5://proxy:1/"),
        ({"ALL_PROXY": "socks5h://user:pass@proxy:1"}, "socks5h://user:pass@proxy:1"),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "example.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": ".example.com,x"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "ample.com"}, "http://proxy:1"),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(
    variables: dict[str, str], url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(REMOTE)
    assert (None if proxy is None else proxy.url) == url
    assert proxy_for(Endpoint("m", "http://127.0.0.1:1/v1", "k")) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("socks4://proxy:1", "socks5://"),
        ("ftp://proxy:1", "http://, https://, socks5://"),
        ("http://", "no valid URL"),
        ("http://proxy:99999", "no valid URL"),
        ("http://[::1", "no valid URL"),
        ("::::", "no valid URL"),
        ("http://user:hunter2@:1", "no valid URL"),
    ],
)
async def test_a_proxy_that_cannot_be_used_is_one_sentence(
    url: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", url)
    async with model_at("http://api.example.com/v1", key="k" * 20) as model:
        with pytest.raises(EndpointUnavailable, match=says) as caught:
            await ask(model)
    assert "ALL_PROXY" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_without_the_package_for_socks_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy:1")
    monkeypatch.setattr("recursive_agent.model.surroundings.find_spec", lambda name: None)
    with pytest.raises(Misconfigured, match=r"pip install 'rao\[socks\]'"):
        proxy_for(REMOTE)


@contextlib.contextmanager
def socks_proxy(heard: list[bytes]) -> Iterator[int]:
    """A SOCKS5 proxy without passwords."""
    server = socket.create_server(("127.0.0.1", 0))

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            count = client.recv(2)[1]
            client.recv(count)
            client.sendall(b"\x05\x00")
            _, _, _, kind = client.recv(4)
            host = client.recv(4) if kind == 1 else client.recv(client.recv(1)[0])
            port = int.from_bytes(client.recv(2), "big")
            heard.append(host)
            with socket.create_connection((socket.inet_ntoa(host) if kind == 1 else host.decode(), port)) as target:
                client.sendall(b"\x05\x00\x00\x01" + bytes(6))
                back = threading.Thread(target=copy, args=(target, client), daemon=True)
                back.start()
                copy(client, target)
                back.join(10)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield server.getsockname()[1]
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["socks", "socks5", "socks5h"])
async def test_calls_go_through_a_socks_proxy(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []
    with (
        socks_proxy(heard) as port,
        answering(chat("there"), host="0.0.0.0") as server,
    ):  # 0.0.0.0 is no loopback address
        monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{port}")
        async with model_at(server.base_url) as model:
            assert (await ask(model)).text == "there"
    assert len(heard) == 1


@pytest.mark.anyio
async def test_calls_go_through_an_http_proxy_and_its_failure_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(chat("by proxy")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:hunter2@127.0.0.1:{proxy.port}")
        async with model_at("http://0.0.0.0:1/v1") as model:
            assert (await ask(model)).text == "by proxy"
        assert "proxy-authorization: basic" in proxy.requests[0][0].lower()
        proxy.answer = lambda body, n: http(b"", "407 Proxy Authentication Required")
        async with model_at("http://0.0.0.0:1/v1") as model:
            with pytest.raises(EndpointUnavailable, match=r"HTTP_PROXY.*credentials") as caught:
                await ask(model)
    assert "hunter2" not in str(caught.value)
    async with model_at("http://0.0.0.0:1/v1") as model:  # nobody listens there any more
        with pytest.raises(EndpointUnavailable, match=r"through the proxy http://127\.0\.0\.1:\d+ \(HTTP_PROXY\)"):
            await ask(model)


@pytest.mark.anyio
async def test_a_bundle_of_certificates_that_is_gone_is_named_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent/cacert.pem")
    with answering(chat("no TLS here")) as server:
        async with model_at(server.base_url) as model:
            assert (await ask(model)).text == "no TLS here"
    async with model_at("https://127.0.0.1:1/v1") as model:
        with pytest.raises(EndpointUnavailable, match=r"SSL_CERT_FILE names /nonexistent/cacert\.pem"):
            await ask(model)


@pytest.mark.anyio
async def test_a_bundle_that_holds_no_certificates_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing here")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "empty.pem"))
    async with model_at("https://127.0.0.1:1/v1") as model:
        with pytest.raises(EndpointUnavailable, match=r"SSL_CERT_FILE names .*empty\.pem"):
            await ask(model)


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A port whose connections are served by `serve`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with contextlib.suppress(OSError), client:
                        serve(client)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.anyio
async def test_https_where_http_is_spoken_says_so() -> None:
    def serve(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(http(b"", "400 Bad Request"))

    with listening(serve) as port:
        async with model_at(f"https://127.0.0.1:{port}/v1", retries=Retries(limit=9, base=60)) as model:
            with anyio.fail_after(20), pytest.raises(EndpointUnavailable, match="does not speak TLS; use an http://"):
                await ask(model)


@pytest.mark.anyio
async def test_a_certificate_that_nobody_vouches_for_is_told_at_once() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True):
            pass

    with listening(serve) as port:
        async with model_at(f"https://127.0.0.1:{port}/v1", retries=Retries(limit=9, base=60)) as model:
            with (
                anyio.fail_after(20),
                pytest.raises(EndpointUnavailable, match=r"certificate of https://127.* cannot be verified") as caught,
            ):
                await ask(model)
    assert "SSL_CERT_FILE" in str(caught.value)


@pytest.mark.anyio
async def test_a_query_of_the_base_url_goes_along_with_every_request() -> None:
    with answering(chat("ok")) as server:
        base = f"{server.base_url}/?api-version=2025-01-01&x=y"
        async with model_at(base) as model:
            assert (await ask(model)).text == "ok"
            await model.context_length()
    lines = [head.split("\r\n")[0] for head, _ in server.requests]
    assert lines == [
        "POST /v1/chat/completions?api-version=2025-01-01&x=y HTTP/1.1",
        "GET /v1/models?api-version=2025-01-01&x=y HTTP/1.1",
    ]


def test_urls_beside_the_base_url_keep_the_query_too() -> None:
    endpoint = resolve_endpoint("m", "http://localhost:1/v1/?a=b#c")
    assert endpoint.base_url == "http://localhost:1/v1?a=b"
    assert endpoint.url("/models") == "http://localhost:1/v1/models?a=b"
    assert endpoint.beside("/tokenize") == "http://localhost:1/tokenize?a=b"


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/chat/completions/", "/models", "/responses"])
def test_a_base_url_that_goes_too_far_is_told_where_to_end(path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"use http://localhost:1/v1\."):
        resolve_endpoint("m", f"http://localhost:1/v1{path}")


@pytest.mark.anyio
async def test_what_the_environment_says_to_openai_s_sdk_goes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Team: seven\nno header\nAuthorization: Bearer other")
    with answering(chat("there")) as server:
        async with model_at(server.base_url, key="k" * 20) as model:
            assert (await ask(model)).text == "there"
    head = server.requests[0][0].lower()
    for line in ("openai-organization: org-1", "openai-project: proj-1", "x-team: seven", "user-agent: rao/"):
        assert f"\r\n{line}" in head
    assert head.count("\r\nauthorization: ") == 1
    assert f"\r\nauthorization: bearer {'k' * 20}\r\n" in head


@pytest.mark.anyio
async def test_a_redirect_into_tls_verifies_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def serve(client: socket.socket) -> None:
        with context.wrap_socket(client, server_side=True):
            pass

    with listening(serve) as port:
        location = f"https://127.0.0.1:{port}/v1/chat/completions"
        with answering(http(b"", "307 T", headers={"location": location})) as server:
            async with model_at(server.base_url) as model:
                with pytest.raises(EndpointUnavailable, match="cannot be verified"):
                    await ask(model)


@pytest.mark.anyio
async def test_a_redirect_elsewhere_takes_no_header_along_that_may_hold_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway-Key: secret-1")
    monkeypatch.setenv("OPENAI_ORG_ID", "secret-2")
    monkeypatch.setenv("RAO_SESSION_HEADER", "X-Session-ID")
    with answering(chat("x")) as other:
        location = f"{other.base_url.replace('127.0.0.1', 'localhost')}/chat/completions"
        with answering(http(b"", "307 T", headers={"location": location})) as server:
            async with model_at(server.base_url, key="secret-3") as model:
                assert (await ask(model)).text == "x"
            (asked,) = [head.lower() for head, body in server.requests if body]
            assert all(text in asked for text in ("secret-1", "secret-2", "secret-3", "x-session-id"))
            (redirected,) = [head.lower() for head, body in other.requests if body]
            assert "secret" not in redirected
            assert "x-session-id" not in redirected
            assert "content-type: application/json" in redirected


@pytest.mark.anyio
async def test_a_redirect_whose_address_holds_a_password_is_followed_with_the_key_instead() -> None:
    def answer(body: Any, count: int) -> bytes:
        location = f"http://name:word@127.0.0.1:{server.port}/v1/there"
        return chat("x") if count else http(b"", "308 P", headers={"location": location})

    with answering(answer) as server:
        async with model_at(server.base_url, key="k") as model:
            assert (await ask(model)).text == "x"
        assert all("authorization: bearer k" in head.lower() for head, body in server.requests if body)


@pytest.mark.anyio
async def test_requests_of_any_size_leave_and_long_headers_are_taken() -> None:
    # Warnings are errors here, and aiohttp warns of a request of 1 MiB.
    with answering(http({"choices": []}, headers={"x-policy": "a" * 20_000})) as server:
        wire = Wire(resolve_endpoint("m", server.base_url), timeout=20.0)
        text = "x" * 3_000_000
        assert await wire.post("/chat/completions", {"text": text}) == {"choices": []}
        assert server.bodies == [{"text": text}]
        await wire.aclose()


@pytest.mark.anyio
async def test_azure_gets_the_key_in_its_own_header() -> None:
    assert Endpoint("m", "https://x.openai.azure.com/openai/v1", "k").is_azure
    assert not Endpoint("m", "https://azure.com.example.org/v1", "k").is_azure


def test_an_attempt_may_take_as_long_as_the_run_unless_it_is_said() -> None:
    assert [attempt_timeout(run) for run in (None, 5.0, 900.0, 7200.0, float("inf"))] == [600, 600, 900, 7200, 86_400]
    endpoint = resolve_endpoint("m", "http://localhost:1/v1")
    assert connect(endpoint).wire.timeout == 600
    assert connect(endpoint, timeout=5).wire.timeout == 5
    for nonsense in (0, -1, float("nan"), float("inf"), True, "5"):
        with pytest.raises(ConfigurationError, match="above 0"):
            connect(endpoint, timeout=nonsense)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["x", "none", "EMPTY", "ollama"])
def test_placeholders_are_not_cut_out_of_messages(key: str) -> None:
    said = f"tool_choice {key} is not supported in context x none EMPTY ollama"
    assert scrub(said, key) == said
    assert scrub(f"bad key {'s' * 20}!", "s" * 20) == "bad key ***!"


@pytest.mark.anyio
async def test_a_key_in_another_form_is_kept_out_of_messages_too() -> None:
    key = 'sk-with"quotes\\and-more'
    with answering(refusal(f"no {key!r} here, nor {key}")) as server:
        async with model_at(server.base_url, key=key) as model:
            with pytest.raises(ModelError) as caught:
                await ask(model)
    assert "quotes" not in str(caught.value)


@pytest.mark.anyio
async def test_what_is_left_out_of_requests_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with answering(lambda body, n: refusal("seed is not supported") if "seed" in body else chat("ok")) as server:
        async with model_at(server.base_url) as model:
            conversation = model.conversation()
            conversation.add(USER)
            with caplog.at_level(logging.WARNING):
                await conversation.complete(max_tokens=9, seed=1)
    assert "takes no seed" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("key", "sent"), [(None, "Basic bWU6YS9iQGM="), ("sk-given", "Bearer sk-given")], ids=["login", "key"]
)
async def test_name_and_password_within_a_base_url_go_into_a_header(key: str | None, sent: str) -> None:
    with answering(chat("ok")) as server:
        url = server.base_url.replace("http://", "http://me:a%2Fb%40c@")
        endpoint = resolve_endpoint("m", url, key)
        assert endpoint.authorization == sent
        assert endpoint.url("/models") == f"{server.base_url}/models"
        assert endpoint.password == "a/b@c"
        async with model_at(url, key=key) as model:
            conversation = model.conversation()
            conversation.add(USER)
            assert (await conversation.complete(max_tokens=9)).text == "ok"
            assert "a%2Fb" not in repr(model)
