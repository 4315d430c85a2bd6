"""Runs an MCP server, and ends it when the process that asked for it is gone: `python -I -S guard.py COMMAND ARGUMENTS`.

Servers should end when their input does; one that hangs would be left behind if this program is killed. Run as a script:
it imports nothing of this package.
"""

import os
import select
import signal
import subprocess
import sys


def main(command: "list[str]") -> int:
    """Run the command until it or our parent ends; its exit status."""
    parent = os.getppid()
    watched = [os.pidfd_open(parent)] if hasattr(os, "pidfd_open") else []
    try:
        server = subprocess.Popen(command)
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127
    # What the server closes must be seen as closed by the other side: it is not to be open here.
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    if watched and os.getppid() == parent:
        ended = os.pidfd_open(server.pid)
        ready, _, _ = select.select([*watched, ended], [], [])
        if ended not in ready:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
            try:
                server.wait(2)
            except subprocess.TimeoutExpired:
                os.killpg(0, signal.SIGKILL)
    status = server.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
