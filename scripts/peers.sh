#!/usr/bin/env bash
# Makes an environment for each package that `python -m benchmarks.peers` measures beside rao, in FOLDER/NAME; does nothing
# where they are there already. A package that cannot be installed is named on stderr, and the benchmark prints it as a row.
#
#     scripts/peers.sh [FOLDER]        default: .envs/peers
#
# Prints the line after which the benchmark finds them.
set -euo pipefail
folder=${1:-.envs/peers}

install() { # NAME, its package with the version, what else it needs to call an OpenAI endpoint
    local name=$1 environment=$folder/$1
    shift
    [ -x "$environment/bin/python" ] && "$environment/bin/python" -c "
from importlib.metadata import version
name, _, wanted = '$1'.partition('==')
raise SystemExit(version(name) != wanted or not version('openai'))" 2>/dev/null && return
    "${PYTHON:-python3}" -m venv "$environment" && "$environment/bin/python" -m pip install -q "$@" >&2 && return
    echo "$name could not be installed" >&2
    rm -rf "$environment"
}

install rlms "rlms==0.1.3" "openai>=3,<4"
install rlmflow "rlmflow==0.3.2" "openai>=3,<4"
install smolagents "smolagents==1.26.0" "openai>=3,<4"
mkdir -p "$folder"
echo "export RAO_PEERS=$(cd "$folder" && pwd)"
