"""`rao`: the entry point, and how every error becomes one sentence and an exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from recursive_agent.errors import ModelError, RaoError

from . import doctor, eval, export, plot, rollout, run, score, serve, trace, train
from .isolation import show_warnings
from .text import clean

WRONG_USAGE = 2
ENDPOINT_FAILED = 3
"""Exit status where the model's endpoint failed: nothing is wrong with the command, and trying again may help."""
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it."""

app = typer.Typer(
    name="rao",
    help="Recursive agents that learn to delegate.\n\nStart with: rao run --demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
app.command("run")(run.run)
trace.app.command("export", short_help="Write rows of tokens for other trainers.")(export.export)
app.add_typer(trace.app, name="trace")
app.command("rollout")(rollout.rollout_command)
app.command("score")(score.score)
app.command("train")(train.train)
app.command("eval")(eval.eval_command)
app.command("plot")(plot.plot)
app.command("serve", options_metavar="[OPTIONS]")(serve.serve)
app.command("doctor", short_help="Check what of rao works on this machine.")(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from recursive_agent import __version__

        print(f"rao {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Hold the options of `rao` itself."""


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 not finished, 2 wrong usage, 3 the endpoint failed, 130 interrupted.

    None of these shows a traceback.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # Closed by whoever started us: Python then has none, and what is meant for one would go to the other.
        sys.stdout = sys.stdout or nowhere
        sys.stderr = sys.stderr or nowhere
        sys.exit(_run())


def _run() -> int | str | None:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # results may hold what the terminal's encoding cannot
    show_warnings()
    status: int | str | None = 0
    try:
        try:
            app(prog_name="rao")
        except SystemExit as end:
            status = end.code
        sys.stdout.flush()
    except RaoError as error:
        print(f"rao: {clean(str(error))}", file=sys.stderr)
        status = ENDPOINT_FAILED if isinstance(error, ModelError) else WRONG_USAGE
    except KeyboardInterrupt:
        print("rao: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. What is still buffered must not raise once more when Python exits.
        _drop_output()
        status = 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        print(f"rao: the output cannot be written ({os.strerror(error.errno or 0)})", file=sys.stderr)
        _drop_output()
        status = 1
    return status


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
