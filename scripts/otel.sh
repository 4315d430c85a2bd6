#!/usr/bin/env bash
# Makes an environment with a collector of OpenTelemetry (rotel) and a server that stores traces (arize-phoenix) in FOLDER;
# does nothing where they are there already.
#
#     scripts/otel.sh [FOLDER]        default: .envs/otel
#
# Prints the line after which the tests find it.
set -euo pipefail
folder=${1:-.envs/otel}
rotel=0.0.1a15
phoenix=20.26.1

is_ready() {
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "
from importlib.metadata import version
raise SystemExit((version('rotel'), version('arize-phoenix')) != ('$rotel', '$phoenix'))" 2>/dev/null
}

if ! is_ready; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "rotel==$rotel" "arize-phoenix==$phoenix" >&2 || { rm -rf "$folder"; exit 1; }
fi
echo "export RAO_OTEL_PYTHON=$(cd "$folder" && pwd)/bin/python"
