"""`rao doctor`: what of rao works on this machine, one line each, and what to do about the rest."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.text import Text

from recursive_agent.errors import RaoError

from ..endpoint_report import EndpointReport, Finding, Verdict
from ..extras import EXTRAS, missing_packages
from ..folders import trace_dir
from ..isolation import LAYERS
from ..text import clean, one_line

_STYLES: dict[Verdict, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}
DESCRIPTORS = 1024
"""Open files that a tree of a few hundred agents needs (two each, and some for the rest)."""


def doctor(
    base_url: Annotated[
        str | None,
        typer.Option(metavar="URL[,URL…]", help="Endpoint to check, or several with commas. Default: OPENAI_BASE_URL."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="Model to test: its name at the endpoint, or the directory that is served there. Default: RAO_MODEL.",
        ),
    ] = None,
) -> None:
    """Check which parts of rao work on this machine, and say how to fix the others.

    [bold]Examples[/]
      rao doctor
      rao doctor --base-url http://localhost:8000/v1 --model NAME

    With --base-url or --model, it also sends the model up to nine short prompts to
    test what it supports. Your endpoint may bill these tokens.

    Exit status: 0 everything that rao needs works, 1 something failed.
    """
    report = EndpointReport(base_url, model)
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "python": _python,
        "packages": _packages,
        "extras": _extras,
        "sandbox": _sandbox,
        "user": _user,
        "namespaces": _namespaces,
        "sandboxes": _sandboxes,
        "environments": _environments,
        "files": _descriptors,
        "policy": _policy,
        "traces": _traces,
        "folder": partial(_folder, model, base_url),
        "endpoint": report.reach,
        "model": report.ask,
    }
    console = Console(highlight=False)
    failed = False
    for subject, check in checks.items():
        for verdict, text in _findings(check):
            failed |= verdict == "fail"
            line = Text.assemble((f"{verdict:<4}", _STYLES[verdict]), f"  {subject:<12} ", clean(text))
            console.print(line, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; one that breaks is a finding too, for a doctor must get to the end."""
    try:
        yield from check()
    except RaoError as error:
        yield Finding("fail", str(error))
    except Exception as error:
        yield Finding("fail", f"{type(error).__name__}: {one_line(str(error))}")


def _python() -> Iterator[Finding]:
    version = platform.python_version()
    where = f"{version} on {platform.system()} {platform.machine()}"
    if platform.system() != "Linux":
        yield Finding("fail", f"{where}: the sandbox needs Linux; use a container or a virtual machine")
    else:
        yield Finding("ok", where)


def _packages() -> Iterator[Finding]:
    try:
        missing, version = missing_packages(None), metadata.version("rao")
    except metadata.PackageNotFoundError:
        yield Finding("warn", "rao runs from its sources without being installed: pip install -e .")
        return
    if missing:
        yield Finding("fail", f"missing: {', '.join(missing)}; install them with: pip install rao")
    else:
        yield Finding("ok", f"rao {version} and all it needs")


def _extras() -> Iterator[Finding]:
    for extra, use in EXTRAS.items():
        try:
            missing = missing_packages(extra)
        except metadata.PackageNotFoundError:
            return  # _packages says so
        if missing:
            yield Finding("ok", f"{extra} is not installed; for {use}: pip install 'rao[{extra}]'")
        else:
            yield Finding("ok", f"{extra} is installed: {use}")


def _sandbox() -> Iterator[Finding]:
    from recursive_agent.repl import make_sandbox
    from recursive_agent.repl.kernel import KERNEL_LAYERS, advice

    async def enter() -> tuple[frozenset[str], float]:
        async def refuse(request: object) -> None:
            raise RuntimeError("no host calls here")

        async with make_sandbox("process", require=None) as sandbox:
            begun = time.perf_counter()
            repl = await sandbox.open(call=refuse)
            try:
                result = await repl.run("6 * 7")
            finally:
                await repl.aclose()
            if "42" not in result.output:
                raise RuntimeError(f"a cell gave {result.status}: {result.error or result.output}")
            return sandbox.enforced, time.perf_counter() - begun

    enforced, took = anyio.run(enter)
    held = f"{', '.join(layer for layer in LAYERS if layer in enforced)} ({took * 1e3:.0f} ms to a first result)"
    if missing := KERNEL_LAYERS - enforced:
        lacking = ", ".join(layer for layer in LAYERS if layer in missing)
        yield Finding(
            "fail",
            f"not on this machine: {lacking}, so agents do not run here. To mend it: {advice(missing)}. --require none "
            f"(require=None) runs them unlocked: only goals, models and data that you trust. What there is: {held}",
        )
    else:
        yield Finding("ok", held)


def _user() -> Iterator[Finding]:
    from recursive_agent.repl.kernel import why_root_cannot_start

    if os.geteuid() != 0:
        yield Finding("ok", f"an ordinary one (id {os.geteuid()})")
    elif problem := why_root_cannot_start():
        yield Finding("fail", problem)
    else:
        yield Finding(
            "warn", "root: agents' code runs as nobody, but rao itself has all rights; better use an ordinary user"
        )


def _namespaces() -> Iterator[Finding]:
    from recursive_agent.repl.namespaces import why_unavailable

    if problem := why_unavailable():
        yield Finding("warn", f"--sandbox namespaces, which is stronger, does not work here: {problem}")
    else:
        yield Finding("ok", "--sandbox namespaces works: files, processes and network of the agents' own")


def _sandboxes() -> Iterator[Finding]:
    from recursive_agent.repl.registry import BUILT_IN, find_sandbox, sandbox_names

    usable = []
    for name in sandbox_names():
        try:
            find_sandbox(name)
        except RaoError as error:
            yield Finding("warn", one_line(str(error)))
        else:
            usable.append(name if name in BUILT_IN else f"{name} (of another package)")
    yield Finding("ok", f"--sandbox takes {', '.join(usable)}, or module:Class")


def _environments() -> Iterator[Finding]:
    from rao_rl.envs import environment_names

    yield Finding("ok", f"ENV of rao rollout, train and eval: {', '.join(environment_names())}, or module:Class")


def _descriptors() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if soft != resource.RLIM_INFINITY and soft < DESCRIPTORS:
        advice = f"raise it: ulimit -n {min(hard, 65536) if hard != resource.RLIM_INFINITY else 65536}"
        yield Finding("warn", f"{limit} open files allowed, big trees need more; {advice}")
    else:
        yield Finding("ok", f"{limit} open files allowed")


def _policy() -> Iterator[Finding]:
    try:
        from recursive_agent.model.embedded import EmbeddedModel

        begun = time.perf_counter()
        model = EmbeddedModel()
    except (RaoError, ImportError, OSError) as error:
        yield Finding("fail", f"the built-in model does not load ({one_line(str(error))}); reinstall rao")
        return
    known = model.settings.environment
    where = "" if known is None else f" for {known.name}"
    yield Finding("ok", f"{model.name}{where}, loaded in {time.perf_counter() - begun:.1f} s")


def _folder(model: str | None, base_url: str | None) -> Iterator[Finding]:
    """What the folder is that --model or RAO_MODEL names, if it is one."""
    from rao_rl.weights.folder import describe

    from ..models import find_checkpoint

    if (checkpoint := find_checkpoint(model, base_url)) is not None:
        yield Finding("ok", describe(checkpoint.directory))


def _traces() -> Iterator[Finding]:
    folder = trace_dir()
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        yield Finding("ok", f"go to {folder}")
    else:
        yield Finding("fail", f"{folder} cannot be written; set RAO_TRACE_DIR")
