"""A real open model on this machine: `python -m examples.open_model ask` gets it, serves it and asks it about a document."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import anyio

from recursive_agent import RaoError

from .asking import ask, parts_of
from .convert import checkpoint_of
from .journal import QUESTION, journal
from .models import MODELS, ModelUnavailable, default_cache, get, is_gguf
from .serving import Engine, Server, ServerSettings, llama_cpp, llama_python, rao_serve

_DEFAULT = "qwen2.5-coder-0.5b"


def parser() -> argparse.ArgumentParser:
    model, usual = argparse.ArgumentParser(add_help=False), ServerSettings()
    model.add_argument(
        "--model",
        default=_DEFAULT,
        metavar="NAME|FILE.gguf|DIR",
        help=f"{', '.join(MODELS)}, or a GGUF file or checkpoint folder of your own ({_DEFAULT})",
    )
    model.add_argument("--cache", type=Path, default=default_cache(), metavar="DIR", help="where models are kept")
    server = argparse.ArgumentParser(add_help=False, parents=[model])
    engines = get_args(Engine)
    server.add_argument("--engine", choices=engines, default="auto", help="auto: llama.cpp if it can, then vLLM")
    server.add_argument("--port", type=int, default=0, help="port to listen on (any free one)")
    server.add_argument("--window", type=int, default=usual.window, help="tokens of one conversation")
    server.add_argument("--threads", type=int, default=usual.threads, help="no more than there are idle cores")
    whole = argparse.ArgumentParser(prog="python -m examples.open_model", description=__doc__)
    commands = whole.add_subparsers(dest="command", required=True)
    getting = commands.add_parser("get", parents=[model], help="download a model, check it, and print its path")
    getting.add_argument("--checkpoint", action="store_true", help="convert it for transformers and vLLM")
    commands.add_parser("serve", parents=[server], help="get it, and serve it until Ctrl-C")
    asking = commands.add_parser("ask", parents=[server], help="get it, serve it, and ask it about a document")
    asking.add_argument("goal", nargs="?", help="what to do with `context`, the list of the document's parts")
    asking.add_argument("--document", type=Path, metavar="FILE", help="a text; default: a harbour's journal")
    asking.add_argument("--base-url", metavar="URL", help="an endpoint that serves the model already, as NAME")
    asking.add_argument("--seed", type=int, default=1)
    asking.add_argument("--traces", type=Path, metavar="DIR", help="record the run, for `rao trace show`")
    return whole


def find(model: str, cache: Path) -> Path:
    """The GGUF file or the checkpoint folder that `--model` means. Raises ModelUnavailable."""
    if model in MODELS:
        return get(MODELS[model], cache)
    path = Path(model).expanduser()
    if is_gguf(path) or (path / "config.json").is_file():
        return path
    raise ModelUnavailable(
        f"{model} is neither one of {', '.join(MODELS)}, nor a GGUF file, nor the folder of a checkpoint"
    )


@contextmanager
def served(args: argparse.Namespace) -> Iterator[Server]:
    """The model, served while the block lasts. Raises ModelUnavailable."""
    path, engine = find(args.model, args.cache), args.engine
    settings = ServerSettings(port=args.port, window=args.window, threads=args.threads)
    if path.is_dir() and engine == "llama.cpp":
        raise ModelUnavailable(
            "llama.cpp serves GGUF files, and this is the folder of a checkpoint; leave out --engine"
        )
    if path.is_file() and (engine == "llama.cpp" or (engine == "auto" and llama_python())):
        with llama_cpp(path, settings) as server:
            yield server
        return
    checkpoint = path if path.is_dir() else checkpoint_of(path, args.cache)
    with rao_serve(checkpoint, settings, engine) as server:
        yield server


def run_get(args: argparse.Namespace) -> int:
    path = find(args.model, args.cache)
    print(checkpoint_of(path, args.cache) if args.checkpoint and path.is_file() else path)
    return 0


def run_serve(args: argparse.Namespace) -> int:
    with served(args) as server:
        print(f"\nexport OPENAI_BASE_URL={server.url} RAO_MODEL={server.model}\n", file=sys.stderr, flush=True)
        print(server.url, flush=True)
        signal.pause()
    return 0


def run_ask(args: argparse.Namespace) -> int:
    document, known = (args.document.read_text(), None) if args.document else journal()
    parts = parts_of(document)
    goal = args.goal or QUESTION
    if args.base_url:
        status = anyio.run(_ask, Server(url=args.base_url, model=args.model), goal, parts, args)
    else:
        with served(args) as server:
            status = anyio.run(_ask, server, goal, parts, args)
    if known and goal == QUESTION:
        print(f"the right answer is {known}", file=sys.stderr)
    return status


async def _ask(server: Server, goal: str, parts: list[str], args: argparse.Namespace) -> int:
    return await ask(server, goal, parts, seed=args.seed, traces=args.traces)


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server ends with this program
    try:
        return {"get": run_get, "serve": run_serve, "ask": run_ask}[args.command](args)
    except (ModelUnavailable, RaoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
