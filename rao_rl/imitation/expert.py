"""An environment's demonstrations as recorded trees: its experts write the code of real agents, in a sandbox and scored."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

import anyio

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError, ModelError, described
from recursive_agent.messages import Message
from recursive_agent.model.base import Completion, Sampling
from recursive_agent.repl import Require, Unset
from recursive_agent.usage import Usage

from ..envs.base import Demonstrating, Demonstration, Environment, Expert
from ..rollouts.attempt import AttemptSettings, attempt_seed
from ..rollouts.many import PlannedAttempt
from ..rollouts.recorded import recorded_attempts
from ..rollouts.recording import Recording, Rollout, record
from .prompting import Prompting

_SHOWN = 3
"""Failed demonstrations that are named."""
_SAY_EVERY = 30.0
"""Seconds between two lines that say how many demonstrations are done."""


class ExpertModel:
    """A model whose answers are the code of an `Expert`, for agents that are prompted as `prompting` says."""

    name = "expert"
    interface: Literal["chat", "tokens"] = "chat"

    def __init__(self, expert: Expert, prompting: Prompting) -> None:
        self.expert = expert
        self.prompting = prompting
        self.sampling = Sampling()
        self.settings = CheckpointSettings(
            name=self.name, prompt_style=prompting.style, action_format=prompting.action_format
        )

    async def context_length(self) -> int | None:
        """None: an expert takes conversations of any length."""
        return None

    def conversation(self, **_: Any) -> ExpertConversation:
        """No agent asks for it, since there is `conversation_for`."""
        raise ConfigurationError("an expert answers for an agent whose goal it knows")

    def conversation_for(self, goal: str, context: Any) -> ExpertConversation:
        """The conversation of the agent with this goal and context."""
        return ExpertConversation(self, goal, context)

    async def aclose(self) -> None:
        """Nothing is open."""


class ExpertConversation:
    """One agent's answers: the expert's next cell each time."""

    exact = True

    def __init__(self, model: ExpertModel, goal: str, context: Any) -> None:
        self.messages: list[Message] = []
        self._model = model
        self._goal, self._context = goal, context
        self._cells: Iterator[str] | None = None

    def add(self, *messages: Message) -> None:
        """Append messages."""
        self.messages.extend(messages)

    async def prompt_tokens(self) -> int:
        """An expert costs nothing."""
        return 0

    async def complete(self, **_: Any) -> Completion:
        """The answer that runs the next cell. Raises ModelError where the expert fails, or has no more code."""
        try:
            text = self._model.prompting.answer(self._next())
        except StopIteration:
            raise ModelError(
                f"the expert has no more code for {self._goal!r:.200}, and has not called finish()"
            ) from None
        except Exception as error:  # code of the environment's author
            raise ModelError(f"the expert failed at {self._goal!r:.200} ({described(error)})") from error
        self.messages.append(Message("assistant", text))
        return Completion(text=text, finish_reason="stop", usage=Usage(calls=1), model=self._model.name)

    def _next(self) -> str:
        if self._cells is None:
            self._cells = iter(self._model.expert(self._goal, self._context))
            return next(self._cells)
        if isinstance(self._cells, Generator):
            return str(self._cells.send(self.messages[-1].content))
        return next(self._cells)


def record_demonstrations(
    environment: Environment,
    folder: Path,
    prompting: Prompting,
    *,
    most: int,
    seed: int,
    require: Require | Unset,
    say: Callable[[str], None],
    levels: Collection[str] = (),
) -> None:
    """Run up to `most` demonstrations of an environment, and record their trees in `folder`, those there already left out.

    `levels` are those of their tasks; all if none is named. If `seed` gives fewer than `most`, the next seeds follow, as
    long as they give others. `say` is called with a sentence about those that fail. Raises ConfigurationError if the
    environment has none.
    """
    name = environment.name
    if not isinstance(environment, Demonstrating):
        raise ConfigurationError(
            f"{name} has no demonstrations to imitate: give it a method demonstrations(seed) (docs/extending.md), or give "
            "recorded traces"
        )
    if unknown := sorted(set(levels) - set(environment.levels)):
        raise ConfigurationError(
            f"imitation.levels: {name} has no level {unknown[0]!r}; choose from {', '.join(environment.levels)}"
        )
    planned = _planned(environment, prompting, most=most, seed=seed, levels=levels)
    if not planned:
        where = f" at the levels {', '.join(levels)}" if levels else ""
        raise ConfigurationError(f"{name} has no demonstrations to imitate: its demonstrations() gives none{where}")
    known = {key: Rollout.of(*key, tree) for key, _, tree in recorded_attempts(folder)}
    missing = [plan for plan in planned if plan.key not in known or known[plan.key].lost]
    if not missing:
        return
    say(f"running {len(missing):,} demonstrations of {name}")
    settings = AttemptSettings(require=require)

    def unused(goal: str, context: Any) -> list[str]:
        return []

    done, said = 0, time.monotonic()

    def on_rollout(_: Rollout) -> None:
        nonlocal done, said
        done += 1
        if done < len(missing) and time.monotonic() - said >= _SAY_EVERY:
            said = time.monotonic()
            say(f"{done:,} of {len(missing):,} demonstrations are done")

    async def run() -> list[Rollout]:
        return await record(
            environment, missing, ExpertModel(unused, prompting), folder, settings, on_rollout=on_rollout
        )

    made = Recording.of(anyio.run(run), wanted=len(missing), found=0)
    if failed := made.wanted - made.solved:
        say(
            f"{failed:,} of {made.wanted:,} demonstrations of {name} fail; see their traces with `rao trace ls {folder}`"
        )


def _planned(
    environment: Demonstrating, prompting: Prompting, *, most: int, seed: int, levels: Collection[str]
) -> list[PlannedAttempt]:
    name = getattr(environment, "name", type(environment).__name__)
    planned: dict[str, PlannedAttempt] = {}
    for each in islice(_of_seeds(environment, seed, levels, name), most):
        group = f"{name}/demonstrations/{each.task.id}"
        planned[group] = PlannedAttempt(
            task=each.task, group=group, seed=attempt_seed(seed, group), model=ExpertModel(each.expert, prompting)
        )
    return list(planned.values())


def _of_seeds(environment: Demonstrating, seed: int, levels: Collection[str], name: str) -> Iterator[Demonstration]:
    """Different demonstrations of `seed` and of the seeds after it, until one of them gives nothing new."""
    known: set[str] = set()
    for each_seed in count(seed):
        before = len(known)
        for each in environment.demonstrations(seed=each_seed):
            if not isinstance(each, Demonstration):
                raise ConfigurationError(
                    f"demonstrations() of {name} must give Demonstration(task=…, expert=…), not {each!r:.80}"
                )
            if each.task.id not in known and (not levels or each.task.level in levels):
                known.add(each.task.id)
                yield each
        if len(known) == before:
            return
