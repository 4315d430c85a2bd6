"""`rao rollout`: groups of attempts at an environment's tasks, recorded as traces to train on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import anyio
import typer

from rao_rl.envs import make
from rao_rl.record import Recording, Rollout, find_recorded, members, record
from recursive_agent.errors import ConfigurationError

from .isolation import RequireOption, SandboxOption, parse_require
from .models import open_model
from .progress import Tally
from .tasks import parse_mode, select_tasks
from .text import count


def rollout_command(
    environment: Annotated[str, typer.Argument(metavar="ENV", hidden=True)] = "textcraft",
    model: Annotated[str | None, typer.Option(help="Checkpoint, or name at --base-url.", metavar="M")] = None,
    base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.", metavar="URL")] = None,
    interface: Annotated[str, typer.Option(help="tokens (exact ids, for RL) or chat.", metavar="KIND")] = "tokens",
    mode: Annotated[str, typer.Option(help="single or recursive.", metavar="MODE")] = "recursive",
    split: Annotated[str, typer.Option(help="Split of the environment.", metavar="SPLIT")] = "train",
    difficulty: Annotated[str | None, typer.Option(help="Which tasks; all if not given.", metavar="D")] = None,
    tasks: Annotated[int, typer.Option(min=1, help="Tasks, of each difficulty named.", metavar="N")] = 16,
    group: Annotated[int, typer.Option(min=1, help="Attempts at each task.", metavar="G")] = 8,
    context_limit: Annotated[int | None, typer.Option(min=1, help="Tokens of an agent.", metavar="N")] = None,
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the sampling.", metavar="T")] = 1.0,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds for one attempt at an answer.", metavar="S")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of tasks and samples.", metavar="N")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Trees at a time.", metavar="N")] = 8,
    out: Annotated[Path, typer.Option(help="Where the traces go.", metavar="DIR")] = Path("traces"),
    sandbox: SandboxOption = "process",
    require: RequireOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the counts as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Record scored groups of attempts; run again, it goes on where it stopped.

    Example: rao rollout textcraft --difficulty medium --out traces/
    """
    if interface not in ("chat", "tokens"):
        raise ConfigurationError(f"--interface is tokens or chat, not {interface!r}")
    how = parse_mode(mode)
    required = parse_require(require, sandbox)
    env = make(environment)
    wanted = members(
        env, split, select_tasks(env, split, seed, difficulty=difficulty, limit=tasks), size=group, seed=seed
    )
    chosen = open_model(
        model, base_url, interface="tokens" if interface == "tokens" else "chat", request_timeout=request_timeout
    )
    settings: dict[str, object] = {
        "model": chosen.name,
        "interface": chosen.interface,
        "temperature": temperature,
        "context limit": context_limit,
        "depth limit": env.max_depth if how == "recursive" else 0,
    }
    if (version := getattr(chosen, "version", None)) is not None:
        settings["version"] = version
    found = find_recorded(out, wanted, settings)
    there = {item.member for item in found}
    todo = {member: task for member, task in wanted.items() if member not in there}

    async def run(tally: Tally) -> list[Rollout]:
        try:
            return await record(
                env,
                todo,
                chosen,
                out,
                mode=how,
                concurrency=concurrency,
                on_rollout=lambda made: tally.add(made.score),
                context_limit=context_limit,
                # Truncated sampling would bias what is trained on it.
                sampling={"temperature": temperature, "top_p": 1.0},
                sandbox=sandbox,
                require=required,
            )
        finally:
            with anyio.CancelScope(shield=True):
                await chosen.aclose()

    with Tally(f"{environment} {split}", len(wanted), done=[item.score for item in found], quiet=quiet) as tally:
        made = anyio.run(run, tally)
    told = Recording.of([*found, *made], wanted=len(wanted), found=len(found))
    print(json.dumps({"out": str(out), **asdict(told)}) if as_json else _in_words(told, out))


def _in_words(told: Recording, out: Path) -> str:
    lines = [
        f"{count(told.rollouts, 'rollout')} in {out}"
        f" → {told.scored:,} scored → {told.solved:,} solved ({told.found:,} were there before)",
        f"{count(told.groups, 'group')}, {told.mixed_groups:,} of them with both better and worse attempts",
    ]
    if told.lost:
        lines.append(f"{count(told.lost, 'attempt')} lost to a failing endpoint; the same command makes them again")
    return "\n".join(lines)
