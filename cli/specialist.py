"""A policy of one trade (the embedded one, or a checkpoint whose `agent.json` names an environment), and its tasks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from recursive_agent.errors import ConfigurationError

from .models import Checkpoint, refuse_idle

if TYPE_CHECKING:
    from rao_rl.envs import Session, Task
    from recursive_agent.model.base import Model

DEMO_LEVEL = "medium"
POINTERS = """\
  vLLM    rao run --base-url http://localhost:8000/v1 --model MODEL "GOAL"
  Ollama  rao run --base-url http://localhost:11434/v1 --model qwen3:8b "GOAL"
  hosted  OPENAI_API_KEY=… rao run --model MODEL "GOAL"   (OPENAI_BASE_URL if it is not OpenAI)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A task for a specialist: the model, the world's tools and scorer, and the depth the world needs."""

    model: Model
    task: Task
    session: Session
    max_depth: int


def assign(
    goal: str | None, seed: int | None, checkpoint: Checkpoint | None = None, request_timeout: float | None = None
) -> Assignment:
    """Set the embedded policy, or that of a checkpoint, to `goal` in the test world of `seed`.

    Without a goal, to the test task of this number. Raises ConfigurationError where the goal is none that the policy
    knows, saying how to point rao at a model.
    """
    from rao_rl.envs import make
    from recursive_agent.model.embedded import EmbeddedModel

    if checkpoint is None:
        refuse_idle(request_timeout)
    try:
        model: Any = EmbeddedModel() if checkpoint is None else checkpoint.open(request_timeout=request_timeout)
    except ConfigurationError as error:
        if checkpoint is not None:
            raise
        raise ConfigurationError(
            f"the embedded policy is not there ({error}). Reinstall rao, or point it at a model:\n{POINTERS}"
        ) from error
    known = model.settings.environment
    if known is None:
        raise ConfigurationError(
            f"the agent.json of {model.name} names no environment to run it in; serve the checkpoint and give its --base-url"
        )
    environment: Any = make(known.name, **known.arguments)
    if goal is None:
        number = abs(seed or 0)
        tasks = environment.tasks("test", 0, difficulty=DEMO_LEVEL, limit=number + 1)
        task = next(islice(tasks, number, None))
    else:
        from rao_rl.envs.textcraft import parse_goal

        if parse_goal(goal) is None:
            raise ConfigurationError(
                "the embedded policy knows crafting goals only, such as 'Craft the following items: 2x copper_gear' "
                f"(try: rao run --demo). For any other goal point rao at a model:\n{POINTERS}"
            )
        task = environment.task(goal, seed or 0)
    return Assignment(model=model, task=task, session=environment.session(task), max_depth=environment.max_depth)
