"""A goal as a task of an environment: for `--env`, and for models that only know one environment (see `agent.json`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError

from .models import Checkpoint, Prompting, refuse_idle
from .tasks import held_out_split

if TYPE_CHECKING:
    from rao_rl.envs import Environment, Session, Task
    from recursive_agent.model.base import Model

POINTERS = """\
  vLLM    rao run --base-url http://localhost:8000/v1 --model MODEL "GOAL"
  Ollama  rao run --base-url http://localhost:11434/v1 --model qwen3:8b "GOAL"
  hosted  OPENAI_API_KEY=… rao run --model MODEL "GOAL"   (OPENAI_BASE_URL if it is not OpenAI)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task, the session that holds its tools and scorer, and the depth that its environment needs."""

    task: Task
    session: Session
    max_depth: int


def assign(environment: Environment, goal: str | None, seed: int) -> Assignment:
    """The task of `goal` in the world of `seed`; without a goal, test task number `seed`. Raises ConfigurationError."""
    from rao_rl.envs import open_session

    task = demo_task(environment, seed) if goal is None else environment.task(goal, seed)
    return Assignment(task=task, session=open_session(environment, task), max_depth=environment.max_depth)


def demo_task(environment: Environment, number: int) -> Task:
    """Test task `number` of the level `medium`, or of the middle one. Raises ConfigurationError if there is none."""
    split = held_out_split(environment)
    levels = environment.levels
    level = "medium" if "medium" in levels else levels[len(levels) // 2]
    number = abs(number)
    tasks = list(environment.tasks(split, 0, level=level, limit=number + 1))
    if not tasks:
        raise ConfigurationError(f"the split {split!r} of {environment.name} has no tasks of level {level}")
    return tasks[number % len(tasks)]


def open_specialist(
    checkpoint: Checkpoint | None, request_timeout: float | None, prompting: Prompting, *, quiet: bool
) -> tuple[Model, CheckpointSettings]:
    """The embedded policy, or the model of a checkpoint, with the settings of its `agent.json`. Raises ConfigurationError."""
    from recursive_agent.model.embedded import SHIPPED, EmbeddedModel

    if checkpoint is not None:
        opened = checkpoint.open(request_timeout=request_timeout, prompting=prompting, quiet=quiet)
        return opened, CheckpointSettings.of(checkpoint.directory)
    refuse_idle(request_timeout)
    prompting.refuse_idle()
    try:
        return EmbeddedModel(), CheckpointSettings.load(SHIPPED)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"the built-in model is missing ({error}). Reinstall rao, or use another model:\n{POINTERS}"
        ) from error


def check_embedded_knows(env: str) -> None:
    """Raises ConfigurationError unless `env` is the environment that the embedded policy was trained on."""
    from recursive_agent.model.embedded import SHIPPED

    known = CheckpointSettings.load(SHIPPED).environment
    if known is None or known.name != env:
        raise ConfigurationError(
            f"the built-in model was not trained on {env}; choose another model with --model (and --base-url)"
        )


def own_environment(settings: CheckpointSettings, env_set: Sequence[str] | None = None) -> Environment:
    """The environment that a model was trained on, with the arguments of `--env-set` over those of its `agent.json`.

    Raises ConfigurationError if its `agent.json` names none.
    """
    from .environments import open_registered

    if settings.environment is None:
        raise ConfigurationError(
            f"the agent.json of {settings.name} names no environment to run it in; name one with --env, or serve the "
            "checkpoint and give its --base-url"
        )
    return open_registered(settings.environment.name, settings.environment.arguments, env_set).environment


def assign_own(
    settings: CheckpointSettings, goal: str | None, seed: int, env_set: Sequence[str] | None = None
) -> Assignment:
    """`assign` in the model's own environment; a goal of another kind gets advice on how to use a general model."""
    from rao_rl.envs import UnknownGoal

    environment = own_environment(settings, env_set)
    try:
        return assign(environment, goal, seed)
    except UnknownGoal as error:
        raise ConfigurationError(
            f"{settings.name} only solves tasks of {environment.name}, where {error} (try: rao run --demo). For any other "
            f"goal use a general model:\n{POINTERS}"
        ) from error
