"""`rao trace view`: a run, two runs or a folder of them as one page for the browser."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recursive_agent.errors import ConfigurationError, TraceError
from recursive_agent.trace.folder import TraceFile, find_trace, read_trace
from recursive_agent.trace.tree import ExecutionTree

from ..browser import open_browser
from ..folders import trace_dir
from ..messages import say
from ..text import one_line

if TYPE_CHECKING:
    from rao_rl.data.explained import Training

_CREDIT = "How credit is explained"
_SUFFIX = ".view.html"


def view(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE",
            help="A trace file, a part of a run's id, or a folder of traces. Default: the folder RAO_TRACE_DIR, else traces.",
            show_default=False,
        ),
    ] = None,
    other: Annotated[
        Path | None,
        typer.Argument(metavar="TRACE2", help="Another run, to see both side by side.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE",
            help="Write the page to FILE (- for stdout). Default: beside the trace, with a name that ends in .view.html.",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", metavar="", help="Do not open the page in a browser.")] = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", metavar="", help="Serve the page on this machine instead, and follow what is written."),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, metavar="PORT", help="Port of --serve. Default: a free one.", show_default=False
        ),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the training run whose settings of credit hold. Default: the one that the traces are in.",
            rich_help_panel=_CREDIT,
            show_default=False,
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting of credit, as of rao train: credit.baseline=goal. May be repeated.",
            rich_help_panel=_CREDIT,
            show_default=False,
        ),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="In runs of several models: the name of the one that is trained.",
            rich_help_panel=_CREDIT,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Look at a run in the browser: a page that needs nothing else and can be sent.

    [bold]Examples[/]
      rao trace view traces/                 all runs as a table; click one
      rao trace view traces/RUN.jsonl        one run
      rao trace view RUN RUN2                two runs side by side
      rao trace view --serve traces/         follow runs while they go on
      rao trace view better/                 a training run: figures and alarms

    It writes an HTML file, prints its path, and opens it if there is a browser.
    The page contains everything that the trace does: send it only to those who
    may read the trace.

    Scored runs show the credit that training gives each agent, and why.
    """
    place = trace if trace is not None else trace_dir()
    if trace is None and not place.exists():
        raise ConfigurationError(f"there is no folder {place}: name a trace or a folder (`rao trace view TRACE`)")
    is_training = other is None and _is_training(place)
    if is_training and (training or settings or policy):
        raise ConfigurationError(
            f"{place} is a training run, whose page has no credit: leave out --training, --set and --policy, or name its traces"
        )
    if serve:
        _check_serve(other, out, training, settings, policy)
        _serve(place, port or 0, is_training=is_training, no_open=no_open)
        return
    if port is not None:
        raise ConfigurationError("--port is the port of --serve: add --serve, or leave it out")
    if is_training:
        data, runs, beside = _training_run(place)
    elif other is not None:
        data, runs, beside = _compared(place, other)
    elif place.is_dir():
        data, runs, beside = _folder(place, training, settings, policy)
    else:
        data, runs, beside = _run(find_trace(place, trace_dir()), training, settings, policy)
    _write(data, runs, out, beside, no_open=no_open)


def _is_training(place: Path) -> bool:
    """Whether this is the folder of a training run."""
    from rao_rl.evaluation.training_page import is_run

    return place.is_dir() and is_run(place)


_Page = tuple[dict[str, Any], list[tuple[str, str]], Path]
"""The data of a page, the runs to embed, and where the page goes unless it is said."""


def _run(path: Path, training: Path | None, settings: list[str] | None, policy: str | None) -> _Page:
    from rao_rl.data.explained import attempts_beside, credit_of
    from recursive_agent.viewer.payload import page_data, run_data

    file = read_trace(path)
    tree = _tree(file)
    credit = {}
    if _has_scores(tree):
        credit = credit_of(attempts_beside(file), _training(path, training, settings, policy)).get(path, {})
    run = run_data(tree, file=str(path), state=file.state.value, credit=credit)
    return page_data(_title(tree), runs=[run]), [], path.with_suffix(_SUFFIX)


def _training_run(place: Path) -> _Page:
    from rao_rl.evaluation.training_page import training_data
    from recursive_agent.viewer.payload import page_data

    training = training_data([place])
    return page_data(training["title"], kind="training", training=training), [], place / f"training{_SUFFIX}"


def _compared(left: Path, right: Path) -> _Page:
    from recursive_agent.viewer.diff import compare
    from recursive_agent.viewer.payload import page_data, run_data

    files = [read_trace(find_trace(each, trace_dir())) for each in (left, right)]
    trees = [_tree(file) for file in files]
    if trees[0].run == trees[1].run:
        raise ConfigurationError(f"{left} and {right} are the same run: name two different ones")
    runs = [
        run_data(tree, file=str(file.path), state=file.state.value) for file, tree in zip(files, trees, strict=True)
    ]
    compared = compare(*trees).as_data()
    title = f"{one_line(trees[0].run, 40)} and {one_line(trees[1].run, 40)}"
    beside = files[0].path.with_name(f"{files[0].path.stem}-and-{files[1].path.stem}{_SUFFIX}")
    return page_data(title, kind="compare", runs=runs, compare=compared), [], beside


def _folder(place: Path, training: Path | None, settings: list[str] | None, policy: str | None) -> _Page:
    from rao_rl.data.explained import credit_of
    from recursive_agent.viewer.folder import folder_page, open_folder

    folder = open_folder(place)
    if not folder.fits:
        data, runs = folder_page(folder)
    else:
        files = list(folder.read())
        data, runs = folder_page(folder, files, credit_of(files, _training(place, training, settings, policy)))
    return data, runs, place / f"traces{_SUFFIX}"


def _training(place: Path, folder: Path | None, settings: list[str] | None, policy: str | None) -> Training:
    """How credit is assigned: as in the training run, with what `--set` changes."""
    from rao_rl.credit.config import CreditConfig
    from rao_rl.data.explained import Training, read_training, training_of

    from ..settings import parse

    folder = folder or training_of(place.resolve())
    config = CreditConfig() if folder is None else read_training(folder)
    source = "the defaults (no training run is known)" if folder is None else f"those of the training run {folder.name}"
    if settings:
        config = parse(settings, {"credit": config})["credit"]
        source += f", and {', '.join(settings)}"
    return Training(config, source, policy, folder)


def _has_scores(tree: ExecutionTree) -> bool:
    return any(node.score_status is not None for node in tree.nodes.values())


def _tree(file: TraceFile) -> ExecutionTree:
    if file.tree is None:
        raise TraceError(file.problem)
    return file.tree


def _title(tree: ExecutionTree) -> str:
    return one_line(tree.root.goal, 80) if tree.nodes else f"run {one_line(tree.run, 40)}"


def _write(data: dict[str, Any], runs: list[tuple[str, str]], out: Path | None, beside: Path, *, no_open: bool) -> None:
    from recursive_agent.viewer.page import page_pieces

    if data["note"]:
        say(data["note"])
    pieces = page_pieces(data, runs=runs)
    if out is not None and str(out) == "-":
        for piece in pieces:
            sys.stdout.write(piece)
        return
    path = _written(pieces, out, beside)
    print(path, flush=True)
    if not no_open:
        open_browser(path.resolve().as_uri())


def _written(pieces: Iterable[str], out: Path | None, beside: Path) -> Path:
    """Where the page was written: to `out`, else beside the trace, else (where nobody may write there) to the temp folder."""
    text = [piece.encode() for piece in pieces]
    try:
        return _put(text, beside if out is None else out)
    except OSError as error:
        if out is not None:
            raise ConfigurationError(f"{out}: the page cannot be written ({error.strerror})") from None
    return _put(text, Path(tempfile.mkdtemp(prefix="rao-")) / beside.name)


def _put(pieces: Iterable[bytes], path: Path) -> Path:
    """Write a file that its owner alone can read, as traces are; all of it or nothing."""
    fd, name = tempfile.mkstemp(prefix=".rao-", suffix=".html", dir=path.parent)
    try:
        with os.fdopen(fd, "wb") as file:
            file.writelines(pieces)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    return path


def _check_serve(*unused: object) -> None:
    names = ("TRACE2", "--out", "--training", "--set", "--policy")
    wrong = [name for name, value in zip(names, unused, strict=True) if value]
    if wrong:
        raise ConfigurationError(f"--serve takes no {' and no '.join(wrong)}: leave it out, or leave out --serve")


def _serve(place: Path, port: int, *, is_training: bool, no_open: bool) -> None:
    from recursive_agent.viewer.server import ViewServer

    shown: Any = place if place.is_dir() else find_trace(place, trace_dir())
    if is_training:
        from rao_rl.evaluation.training_site import TrainingSite

        shown = TrainingSite([place])
    with ViewServer(shown, port=port) as server:
        print(server.url, flush=True)
        say("the page follows what is written; press Ctrl-C to end")
        if not no_open:
            open_browser(server.ticket())
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
