"""Which servers: settings, the file that assistants share, and the command line."""

from __future__ import annotations

import json
import pickle
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from recursive_agent import Agent, Approve, ConfigurationError, MCPServer
from recursive_agent.mcp import read_config
from recursive_agent.mcp.config import server_of
from recursive_agent.testing import ScriptedEndpoint
from tests.agent.helpers import py
from tests.cli.command import run_here

from .servers import SECRET, SERVED, counting


def written(folder: Path, content: Any) -> Path:
    path = folder / "servers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_file_of_assistants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TOKEN", SECRET)
    entries = {
        "git": {"command": "uvx", "args": ["mcp-server-git"], "env": {"TOKEN": "${GIT_TOKEN}"}, "alwaysAllow": []},
        "web": {
            "url": "https://x.example/mcp",
            "headers": {"Authorization": "Bearer ${env:GIT_TOKEN}"},
            "prefix": "web_",
        },
        "old": {"url": "https://x.example/${PLACE:-here}/sse", "include": ["read_*"]},
        "off": {"command": "x", "disabled": True},
    }
    git, web, old = read_config(written(tmp_path, {"mcpServers": entries}))
    assert (git.name, git.transport, git.command, git.args, git.secrets) == (
        "git", "stdio", "uvx", ("mcp-server-git",), (SECRET,)
    )  # fmt: skip
    assert (web.transport, web.prefix, web.secrets) == ("http", "web_", (f"Bearer {SECRET}", SECRET))
    assert (old.transport, old.url, old.takes("read_it"), old.takes("write_it")) == (
        "sse", "https://x.example/here/sse", True, False
    )  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "is not JSON"),
        ({}, "names no MCP server"),
        ({"mcpServers": {"a": 3}}, "a: must be an object with a command or a url"),
        ({"mcpServers": {"a": {}}}, "a: it has neither command nor url"),
        ({"mcpServers": {"a": {"url": "ftp://x"}}}, "a: url must be the http:// or https:// address"),
        ({"mcpServers": {"a": {"url": "http://x", "type": "ws"}}}, "a: type must be stdio, http or sse, not 'ws'"),
        ({"mcpServers": {"a": {"command": "${NOT_THERE}"}}}, "a: the environment variable NOT_THERE is not set"),
        ({"mcpServers": {"a": {"command": "x", "args": "y"}}}, "args of the MCP server 'x' must be a list of texts"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, content: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read_config(written(tmp_path, content))
    assert told in str(refused.value)


def test_what_a_command_line_names() -> None:
    (command,) = server_of("uvx mcp-server-git --repository 'my repo'")
    assert (command.name, command.args) == ("git", ("mcp-server-git", "--repository", "my repo"))
    assert [server_of(f"http://x/{end}")[0].transport for end in ("mcp", "sse")] == ["http", "sse"]
    with pytest.raises(ConfigurationError, match="no command of an MCP server"):
        server_of("uvx 'open")


def test_secrets_are_known_by_name_or_look_and_never_shown() -> None:
    server = MCPServer.stdio(
        "x", ["--api-key", "k-12345678", "--token=t-12345678", "--verbose"], env={"MODE": "production", "ID": "a1" * 12}
    )
    assert set(server.secrets) == {"k-12345678", "t-12345678", "a1" * 12}
    web = MCPServer.http("https://me:pass-word1@x.example/mcp?api_key=q-12345678", headers={"Accept": "text/plain"})
    assert set(web.secrets) == {"pass-word1", "q-12345678"}
    assert web.place == "https://x.example/mcp"
    assert not any(secret in repr(each) for each in (server, web) for secret in each.secrets)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: MCPServer.stdio(""), "command must be the program"),
        (lambda: MCPServer.http("x"), "url must be"),
        (lambda: MCPServer.stdio("x", prefix="a b"), "prefix must be letters"),
        (lambda: MCPServer.stdio("x", include="read_*"), "include must be a list"),
        (lambda: MCPServer.stdio("x", timeout=0), "timeout must be a number above 0"),
        (lambda: MCPServer.stdio("x", env={"A": 1}), "must map names to texts"),  # type: ignore[dict-item]
        (lambda: Agent("m", "http://x", tools=[MCPServer]), "write MCPServer.stdio"),
        (lambda: Agent("m", "http://x", tools=[MCPServer.stdio("x"), MCPServer.stdio("x")]), "have one name"),
        (
            lambda: Agent("m", "http://x", approve=Approve(lambda call: True, tools=[MCPServer.stdio("x")])),
            "Approve names the MCP server 'x'",
        ),
    ],
)
def test_wrong_settings(make: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        make()


def test_an_agent_with_servers_can_be_sent_to_another_process() -> None:
    agent = pickle.loads(pickle.dumps(Agent("m", "http://x", "key", tools=[counting()])))
    assert [server.name for server in agent.mcp_servers] == ["counting"]
    assert agent.variant(tools=[]).mcp_servers == ()


def test_rao_run_with_a_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "any-key-will-do")
    command = shlex.join([sys.executable, SERVED, "stdio"])
    with ScriptedEndpoint(py("finish(await add(40))")) as endpoint:
        model = ("--model", "scripted", "--base-url", endpoint.base_url)
        status, out, err = run_here(monkeypatch, capsys, "run", "go", "--mcp", command, *model)
        assert (status, out) == (0, "42\n"), err
        status, out, err = run_here(monkeypatch, capsys, "run", "go", "--mcp", "no-such-server", *model)
    assert (status, out) == (2, "")
    assert "the command 'no-such-server' was not found" in err
    status, out, err = run_here(monkeypatch, capsys, "run", "--demo", "--mcp", command)
    assert status == 2
    assert "--mcp works only with a goal of your own" in err
