#!/usr/bin/env bash
# Makes an environment with public MCP servers in FOLDER: mcp-server-time and mcp-server-git; where npm is there, also
# server-filesystem and server-everything. Does nothing where they are there.
#
#     scripts/mcp.sh [FOLDER]        default: .envs/mcp
#
# Prints the line after which the tests find it.
set -euo pipefail
folder=${1:-.envs/mcp}
servers=(mcp-server-time mcp-server-git)

if ! { [ -x "$folder/bin/mcp-server-time" ] && [ -x "$folder/bin/mcp-server-git" ]; }; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "${servers[@]}" >&2 || { rm -rf "$folder"; exit 1; }
fi
if [ ! -x "$folder/node/node_modules/.bin/mcp-server-everything" ] && command -v npm >/dev/null; then
    npm install --silent --no-audit --no-fund --prefix "$folder/node" \
        @modelcontextprotocol/server-filesystem @modelcontextprotocol/server-everything >&2 || rm -rf "$folder/node"
fi
echo "export RAO_MCP_SERVERS=$(cd "$folder" && pwd)/bin"
