"""Coverage-guided fuzzing of the host's side of a worker's socket: `python -m tests.repl.fuzz --seconds 3600 CORPUS`.

Needs `pip install atheris`. Inputs that reach new code are kept in the folder CORPUS, so that a later run goes on from
there; an input that breaks something is written to `crash-*`. Besides any exception that the host should not raise, an
event loop that stands still for more than a second and memory beyond 2 GiB count as broken.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys

MOST_SECONDS = 1.0
MOST_MEMORY = 2 << 30


def main() -> None:
    import atheris

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="stop after so many seconds")
    parser.add_argument("corpus", nargs="?", default="build/fuzz")
    options = parser.parse_args()
    import pathlib

    pathlib.Path(options.corpus).mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["recursive_agent"]):
        from tests.repl.hostile import session

    loop = asyncio.new_event_loop()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY * 2, resource.RLIM_INFINITY))

    def one(data: bytes) -> None:
        stood_still = loop.run_until_complete(session(data))
        if stood_still > MOST_SECONDS:
            raise RuntimeError(f"the event loop stood still for {stood_still:.2f} s")
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > MOST_MEMORY:
            raise RuntimeError("the host took too much memory")

    arguments = [
        sys.argv[0],
        f"-max_total_time={options.seconds}",
        "-max_len=4096",
        "-len_control=0",
        "-timeout=120",
        options.corpus,
    ]
    atheris.Setup(arguments, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
