"""The scripted endpoint as a process of its own: `python -m recursive_agent.testing --latency 0.05`.

Prints one line of JSON with its `base_url`, serves until SIGINT or SIGTERM or until its standard input closes (with
`--until-eof`), then prints its ledger's totals as a second line.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path

from .endpoint import ScriptedEndpoint
from .script import Script


def load_script(reference: str) -> Script:
    """The script named `module:attribute` (the current directory is searched too). Raises SystemExit with a sentence."""
    module_name, _, attribute = reference.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        script: Script = getattr(importlib.import_module(module_name), attribute or "script")
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"--script {reference}: {error}") from None
    return script


def _stop_at_end_of_input(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(65536):
        pass
    stop.set()


def main(arguments: list[str] | None = None) -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m recursive_agent.testing", description=__doc__)
    parser.add_argument("--script", help="module:function, from Request to str, Reply or Fault")
    parser.add_argument("--text", default="```python\nfinish(0)\n```", help="what to answer without --script")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer")
    parser.add_argument("--model", action="append", help="a model on offer (default: scripted; may be repeated)")
    parser.add_argument("--max-model-len", type=int, help="context window in tokens")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input closes")
    options = parser.parse_args(arguments)
    endpoint = ScriptedEndpoint(
        load_script(options.script) if options.script else options.text,
        models=options.model or ["scripted"],
        api_key=os.environ.get("SCRIPTED_API_KEY"),
        max_model_len=options.max_model_len,
        latency=options.latency,
        host=options.host,
        port=options.port,
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with endpoint:
        print(json.dumps({"base_url": endpoint.base_url, "models": endpoint.models}), flush=True)
        if options.until_eof:
            threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
        stop.wait()
    print(json.dumps(endpoint.ledger.summary()), flush=True)


if __name__ == "__main__":
    main()
