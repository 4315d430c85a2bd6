"""Runs in the Python that has openenv-core: serves the package's own template, or an environment whose actions are tools.

    python served.py template FOLDER      the package's template for new environments, filled in as `openenv init` does
    python served.py tools FOLDER         a vault with three digits, opened by MCP tools

Prints the port once it listens. (The template has places for names in its files' names too, so it is copied first.)
"""

from __future__ import annotations

import importlib
import socket
import sys
from pathlib import Path
from typing import Any

NAMES = {"__ENV_NAME__": "echo_env", "__ENV_CLASS_NAME__": "Echo", "__ENV_TITLE_NAME__": "Echo"}


def template(folder: Path) -> Any:
    from openenv.cli import templates

    source = Path(templates.__file__).parent / "openenv_env"
    for file in source.rglob("*.py"):
        path, text = str(file.relative_to(source)), file.read_text()
        for place, name in NAMES.items():
            path, text = path.replace(place, name), text.replace(place, name)
        target = folder / "echo_env" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    sys.path.insert(0, str(folder))
    return importlib.import_module("echo_env.server.app").app


def tools(folder: Path) -> Any:
    from fastmcp import FastMCP
    from openenv.core.env_server.http_server import create_app
    from openenv.core.env_server.mcp_environment import MCPEnvironment
    from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
    from openenv.core.env_server.types import Observation, State

    class Vault(MCPEnvironment):
        """Open the vault: three digits."""

        SUPPORTS_CONCURRENT_SESSIONS = True

        def __init__(self) -> None:
            server = FastMCP("vault")
            self.code, self.found, self.steps = [0, 0, 0], 0, 0

            @server.tool
            def turn(digit: int) -> bool:
                """Try the next digit: whether it was right."""
                if not 0 <= digit <= 9:
                    raise ValueError("a digit is from 0 to 9")
                right = self.found < 3 and self.code[self.found] == digit
                self.found += right
                return right

            super().__init__(server)

        def reset(self, seed: int | None = None, **_: Any) -> Observation:
            self.code = [int(each) for each in f"{seed or 0:03}"[-3:]]
            self.found = self.steps = 0
            return Observation(done=False)

        def _step_impl(self, action: Any, timeout_s: float | None = None, **_: Any) -> Observation:
            raise ValueError("call a tool")

        def _paid(self, observation: Any, before: int) -> Any:
            observation.reward, observation.done = (self.found - before) / 3, self.found == 3
            return observation

        def step(self, action: Any, **more: Any) -> Any:
            before = self.found
            return self._paid(super().step(action, **more), before)

        async def step_async(self, action: Any, **more: Any) -> Any:
            before = self.found
            return self._paid(await super().step_async(action, **more), before)

        @property
        def state(self) -> State:
            return State(step_count=self.steps)

    return create_app(Vault, CallToolAction, CallToolObservation, env_name="vault", max_concurrent_envs=8)


def main() -> None:
    import uvicorn

    app = {"template": template, "tools": tools}[sys.argv[1]](Path(sys.argv[2]))
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
