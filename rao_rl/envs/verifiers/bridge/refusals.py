"""What of a taskset has no place in rao: found before any attempt, and said in one sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any


class Refused(Exception):
    """This taskset cannot be run, or not as asked; the message says why."""


class Unknown(Refused):
    """There is no such taskset in this Python."""


def check_taskset(vf: Any, taskset: Any, name: str) -> None:
    """Raises Refused for a taskset whose tasks need more than a prompt, tools and rewards of the answer."""
    environment = vf.environment_class(name)
    if environment is not vf.SingleAgentEnv:
        raise Refused(
            f"it is run by an environment of its own ({environment.__name__}), which plays several agents or the user; only "
            "tasksets for one agent can be run"
        )
    kind = taskset.task_type()
    if kind.NEEDS_CONTAINER:
        raise Refused(f"its tasks ({kind.__name__}) need a container")
    for hook in ("setup", "finalize", "stage_verifier"):
        if getattr(kind, hook) is not getattr(vf.Task, hook):
            raise Refused(f"its tasks ({kind.__name__}.{hook}) prepare or read a runtime, and rao's agents have none")
    for mark in ("intercept", "stop"):
        if names := [each for each in dir(kind) if hasattr(getattr(kind, each, None), mark)]:
            raise Refused(f"its tasks watch every message of the model ({kind.__name__}.{names[0]} is a @vf.{mark})")


def check_task(task: Any) -> None:
    """Raises Refused for a task that cannot be asked as a text, or whose rewards need more than the answer."""
    data = task.data
    for field in ("image", "skills", "artifacts"):
        if getattr(data, field, None):
            raise Refused(f"task {data.idx} needs a runtime ({field})")
    if task.hooks("stop"):
        raise Refused(f"task {data.idx} watches every message of the model (config.stops)")
    prompt_of(task)
    found = [*_rewards(task)]
    if not found:
        raise Refused(f"task {data.idx} has no reward")
    for name, function in found:
        if _needs_runtime(function):
            raise Refused(
                f"its reward {name} needs the runtime that the answer was written in; without it the reward would be left "
                "out and the score would be wrong"
            )


def prompt_of(task: Any) -> str:
    """System prompt and prompt as one text. Raises Refused where there is none, or not as text."""
    data = task.data
    texts = [data.system_prompt] if data.system_prompt else []
    if data.prompt is None:
        raise Refused(f"task {data.idx} has no prompt: a simulated user opens the conversation")
    if isinstance(data.prompt, str):
        texts.append(data.prompt)
    else:
        for message in data.prompt:
            if message.role not in ("system", "user"):
                raise Refused(
                    f"the prompt of task {data.idx} goes on with a conversation (a message of role {message.role})"
                )
            if not isinstance(message.content, str):
                if any(part.type != "text" for part in message.content):
                    raise Refused(f"the prompt of task {data.idx} has parts that are not text")
                texts.extend(part.text for part in message.content)
            else:
                texts.append(message.content)
    prompt = "\n\n".join(text for text in texts if text.strip())
    if not prompt:
        raise Refused(f"the prompt of task {data.idx} is empty")
    return prompt


def check_tools(vf: Any, toolset: Any) -> None:
    """Raises Refused for tools that cannot be called here and now, in this process."""
    name, config = type(toolset).__name__, toolset.config
    if getattr(config, "colocated", False):
        raise Refused(f"its tools ({name}) run inside the runtime of the agent, and rao's agents have none")
    if getattr(config, "url", None):
        raise Refused(f"its tools ({name}) are a server of their own (url)")
    if getattr(config, "runtime", None) is not None and not isinstance(config.runtime, vf.SubprocessConfig):
        raise Refused(f"its tools ({name}) run in a {config.runtime.type} runtime")
    state = getattr(toolset, "_state_cls", vf.State)
    if state is not vf.State:
        raise Refused(f"its tools ({name}) keep a state that is shared with the harness ({state.__name__})")


def _rewards(task: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for function in task.hooks("reward"):
        yield function.__name__, function
    for judge in task.plugged_judges():
        yield judge.reward_name, judge.score


def _needs_runtime(function: Callable[..., Any]) -> bool:
    """As in verifiers: a parameter `runtime` with a default can do without."""
    parameter = inspect.signature(function).parameters.get("runtime")
    return parameter is not None and parameter.default is inspect.Parameter.empty
