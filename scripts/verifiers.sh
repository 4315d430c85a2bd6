#!/usr/bin/env bash
# Makes an environment with `verifiers` and a taskset for it (marble-v1, which needs no network and no runtime) in FOLDER; does
# nothing where it is there already.
#
#     scripts/verifiers.sh [FOLDER]        default: .envs/verifiers
#
# Prints the line after which rao finds it. verifiers needs openai < 3, so it cannot be installed beside rao.
set -euo pipefail
folder=${1:-.envs/verifiers}
verifiers=0.4.0
taskset=0.1.0

is_ready() {
    [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "
from importlib.metadata import version
raise SystemExit((version('verifiers'), version('marble-v1')) != ('$verifiers', '$taskset'))" 2>/dev/null
}

if ! is_ready; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "verifiers==$verifiers" "marble-v1==$taskset" >&2 || { rm -rf "$folder"; exit 1; }
fi
echo "export RAO_VERIFIERS_PYTHON=$(cd "$folder" && pwd)/bin/python"
