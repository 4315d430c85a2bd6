"""An OpenAI-compatible llama.cpp server in this process, until SIGTERM or Ctrl-C: python llama_server.py FILE.gguf --port 8000

It needs xllamacpp and nothing else of this project, so it may run in an environment of its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gguf")
    parser.add_argument("--name", default="open-model", help="what clients call the model")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--window", type=int, default=8192, help="tokens of one conversation")
    parser.add_argument("--parallel", type=int, default=4, help="conversations at a time")
    parser.add_argument("--threads", type=int, default=1, help="no more than there are idle cores")
    parser.add_argument("--with-parent", action="store_true", help="end once the program that started it has ended")
    args = parser.parse_args()
    parent = os.getppid() if args.with_parent else None
    import xllamacpp

    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # before the server's threads, which would get them otherwise
    settings = xllamacpp.CommonParams()
    settings.model.path = args.gguf
    settings.model_alias = {args.name}
    settings.hostnames, settings.port = ["127.0.0.1"], args.port
    settings.n_parallel, settings.n_ctx = args.parallel, args.window * args.parallel
    settings.kv_unified = False  # each conversation has the same window, however many there are
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = args.threads
    settings.use_jinja = settings.endpoint_metrics = True
    server = xllamacpp.Server(settings)
    print(f"llama.cpp listens at {server.listening_address}", file=sys.stderr, flush=True)
    while signal.sigtimedwait(ends, 1) is None and parent in (None, os.getppid()):
        pass


if __name__ == "__main__":
    main()
