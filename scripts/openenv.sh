#!/usr/bin/env bash
# Makes an environment with an OpenEnv server (the package openenv-core) in FOLDER; does nothing where it is there already.
#
#     scripts/openenv.sh [FOLDER]        default: .envs/openenv
#
# Prints the line after which the tests find it. It shares no environment with verifiers: their requirements exclude each other.
set -euo pipefail
folder=${1:-.envs/openenv}
version=0.3.0

is_ready() {
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "
from importlib.metadata import version
raise SystemExit(version('openenv-core') != '$version')" 2>/dev/null
}

if ! is_ready; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "openenv-core==$version" >&2 || { rm -rf "$folder"; exit 1; }
fi
echo "export RAO_OPENENV_PYTHON=$(cd "$folder" && pwd)/bin/python"
