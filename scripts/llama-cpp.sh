#!/usr/bin/env bash
# Makes an environment with a prebuilt llama.cpp server (the package xllamacpp) in FOLDER; does nothing where it is there already.
#
#     scripts/llama-cpp.sh [FOLDER]        default: .envs/llama
#
# Prints the line after which examples/open_model finds it.
set -euo pipefail
folder=${1:-.envs/llama}
version=2026.10.11549

is_ready() {
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "
from importlib.metadata import version
raise SystemExit(version('xllamacpp') != '$version')" 2>/dev/null
}

if ! is_ready; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "xllamacpp==$version" >&2
fi
echo "export RAO_LLAMA_PYTHON=$(cd "$folder" && pwd)/bin/python"
