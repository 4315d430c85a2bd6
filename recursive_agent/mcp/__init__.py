"""Tools of MCP servers as tools of agents: `Agent(tools=[MCPServer.stdio("uvx", ["mcp-server-git"])])`.

Needs the extra `mcp`. `server.py` says which server; `connection.py` holds it open for a run; `tool.py` is one tool of it.
"""

from .config import read_config
from .server import MCPServer

__all__ = ["MCPServer", "read_config"]
