"""Finished trees with exact tokens, as the trainer takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recursive_agent.model.base import Message
from recursive_agent.status import Status
from recursive_agent.trace.schema import Event, RunEnded, Scored
from recursive_agent.trace.tree import ExecutionTree
from recursive_agent.usage import Usage
from tests.trace.events import model_called, node_ended, node_started, run_started


@dataclass(frozen=True)
class Turn:
    """One model call."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    version: str | None = "0"


def turn(prompt: Sequence[int], completion: Sequence[int], version: str | None = "0") -> Turn:
    return Turn(tuple(prompt), tuple(completion), version)


def token_events(
    *conversations: Sequence[Turn],
    run: str = "r",
    group: str | None = "g",
    scores: Sequence[float] = (),
    exact: bool = True,
    **more: Any,
) -> list[Event]:
    """The first conversation is the root's, the others are its children's. Not `exact`: text alone, without tokens."""
    names = ["0", *(f"0.{number}" for number in range(len(conversations) - 1))]
    told: list[Event] = [run_started(run=run, group=group, interface="tokens" if exact else "chat", **more)]
    told += [node_started(name, goal="the task" if name == "0" else f"goal {name}") for name in names]
    for name, turns in zip(names, conversations, strict=True):
        for number, made in enumerate(turns, start=1):
            tokens: dict[str, Any] = {
                "prompt_token_ids": made.prompt,
                "token_ids": made.completion,
                "logprobs": tuple(-1.0 - place / 4 for place in range(len(made.completion))),
            }
            usage = Usage(calls=1, prompt_tokens=len(made.prompt), completion_tokens=len(made.completion))
            told.append(
                model_called(
                    name,
                    number,
                    messages=(Message("user", "go on"),),
                    usage=usage,
                    version=made.version,
                    **(tokens if exact else {}),
                )
            )
    for name, turns in reversed(list(zip(names, conversations, strict=True))):
        used = sum(len(made.completion) for made in turns)
        told.append(node_ended(name, usage=Usage(calls=len(turns), completion_tokens=used)))
    told.append(RunEnded(time=0.0, status=Status.FINISHED, usage=Usage()))
    told += [Scored(time=1.0, node=name, score=score) for name, score in zip(names, scores, strict=False)]
    return told


def token_tree(*conversations: Sequence[Turn], **run: Any) -> ExecutionTree:
    return ExecutionTree.from_events(token_events(*conversations, **run))
