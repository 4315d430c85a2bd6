"""An agent server as a process of its own: `python -m tests.serve.agent.agent_process BASE_URL TRACES < …`.

Prints its URL, and serves until it is terminated. The key of the server is read from SERVER_KEY.
"""

from __future__ import annotations

import os
import sys

import anyio

from rao_rl.serve.agent.app import agent_app
from rao_rl.serve.http import ServerSettings, serve
from recursive_agent import Agent


def main(base_url: str, traces: str, max_body_bytes: int) -> None:
    settings = ServerSettings(port=0, api_keys=(os.environ["SERVER_KEY"],), max_body_bytes=max_body_bytes)
    app = agent_app(Agent("scripted", base_url, trace_dir=traces), settings)

    def ready(url: str) -> None:
        print(url, flush=True)

    async def run() -> None:
        await serve(app, settings, ready=ready)

    anyio.run(run)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
