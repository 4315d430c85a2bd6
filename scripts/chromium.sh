#!/usr/bin/env bash
# Makes sure that there is a Chromium for the tests of the trace viewer's page, and prints where it is.
#
#     scripts/chromium.sh
#
# Takes $RAO_CHROMIUM, then one that is installed, then Debian's, which needs root. Exits with 1 where there is none.
set -euo pipefail

find_chromium() {
    local each
    for each in "${RAO_CHROMIUM:-}" chromium chromium-browser google-chrome-stable google-chrome; do
        [ -n "$each" ] && command -v "$each" && return 0
    done
    return 1
}

if ! find_chromium >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "There is no Chromium: install one (Debian: apt-get install chromium), or name it in RAO_CHROMIUM." >&2
        exit 1
    fi
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >&2
fi
find_chromium
