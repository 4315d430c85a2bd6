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

from .commands import doctor, eval, export, plot, resume, rollout, run, score, serve, trace, train, view
from .messages import say, show_warnings
from .usage import usage_error

WRONG_USAGE = 2
ENDPOINT_FAILED = 3
"""Exit status where the model's endpoint failed: nothing is wrong with the command, and trying again may help."""
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells give it."""

app = typer.Typer(
    name="rao",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_USE, _TRAIN, _CHECK = "Run agents", "Record, score, train, measure", "This machine"
app.command("run", rich_help_panel=_USE)(run.run)
app.command("resume", rich_help_panel=_USE)(resume.resume)
app.add_typer(trace.app, name="trace", rich_help_panel=_USE)
app.command("serve", rich_help_panel=_USE, options_metavar="[OPTIONS]")(serve.serve)
app.command("rollout", rich_help_panel=_TRAIN)(rollout.rollout_command)
app.command("score", rich_help_panel=_TRAIN)(score.score)
app.command("train", rich_help_panel=_TRAIN)(train.train)
app.command("eval", rich_help_panel=_TRAIN)(eval.eval_command)
app.command("plot", rich_help_panel=_TRAIN)(plot.plot)
app.command("doctor", rich_help_panel=_CHECK)(doctor.doctor)
trace.app.command("view", short_help="Look at runs in the browser.")(view.view)
trace.app.command("export")(export.export)


def _version(value: bool) -> None:
    if value:
        from recursive_agent import __version__

        print(f"rao {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", metavar="", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Recursive agents that learn to delegate: an agent writes Python, in a sandbox,
    and may call itself.

    [bold]Examples[/]
      rao run --demo
      rao run "GOAL" --model NAME --base-url http://localhost:8000/v1
      rao doctor

    rao run --demo needs no key and no download. For details: rao COMMAND --help.
    """


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 not finished, 2 wrong usage, 3 the endpoint failed, 130 interrupted.

    None of these shows a traceback.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        # A parent process may have closed one: Python then has none, and its text would go to the other.
        sys.stdout = sys.stdout or nowhere
        sys.stderr = sys.stderr or nowhere
        sys.exit(_run())


def _run() -> int:
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # results may hold what the terminal's encoding cannot
    show_warnings()
    status = 0
    try:
        status = app(prog_name="rao", standalone_mode=False) or 0
        sys.stdout.flush()
    except typer.TyperException as error:
        if error.format_message():  # `rao` and `rao trace` alone have printed their help
            say(usage_error(error))
        status = WRONG_USAGE
    except RaoError as error:
        say(str(error))
        status = ENDPOINT_FAILED if isinstance(error, ModelError) else WRONG_USAGE
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted")
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. What is still buffered must not raise once more when Python exits.
        _drop_output()
        status = 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        say(f"the output cannot be written ({os.strerror(error.errno or 0)})")
        _drop_output()
        status = 1
    return status


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
