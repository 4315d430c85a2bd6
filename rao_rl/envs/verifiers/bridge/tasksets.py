"""A taskset, its tasks as far as they were read, and the rewards of answers to them."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .refusals import Refused, Unknown, check_task, check_taskset, prompt_of
from .toolsets import Tools


class Failed(Exception):
    """The taskset's own code did not do what was asked; the message says why."""


class Opened:
    """A taskset of this Python, with its settings."""

    def __init__(self, vf: Any, name: str, config: Mapping[str, Any]) -> None:
        self._vf = vf
        self.name = name
        try:
            kind = vf.taskset_config_type(name)
        except (ModuleNotFoundError, AttributeError, TypeError, ValueError) as error:
            raise Unknown(f"there is no taskset {name!r} ({_line(error)})") from error
        try:
            self.config = kind(**{**config, "id": name})
        except (TypeError, ValueError) as error:
            raise Refused(f"it does not take this config: {_line(error)}") from error
        try:
            self._taskset = vf.load_taskset(self.config)
            check_taskset(vf, self._taskset, name)
            self._rest: Iterator[Any] | None = iter(self._taskset)
        except Refused:
            raise
        except Exception as error:
            raise Failed(f"it cannot be loaded ({_line(error)})") from error
        self._tasks: list[Any] = []
        self._keys: set[str] = set()

    def task(self, index: int) -> Any:
        """The task at a position. Raises IndexError behind the last one, Refused for one that cannot be run."""
        while self._rest is not None and len(self._tasks) <= index:
            try:
                task = next(self._rest)
            except StopIteration:
                self._rest = None
                break
            except Exception as error:
                raise Failed(f"its tasks cannot be read ({_line(error)})") from error
            check_task(task)
            if task.key in self._keys:
                raise Refused(f"two of its tasks have the key {task.key!r:.80}")
            self._keys.add(task.key)
            self._tasks.append(task)
        return self._tasks[index]

    def described(self, first: int, end: int) -> list[dict[str, Any]]:
        """What the host learns of the tasks from `first` up to `end`: no answer is in it."""
        found = []
        for index in range(first, end):
            try:
                task = self.task(index)
            except IndexError:
                break
            found.append({"index": index, "key": task.key, "prompt": prompt_of(task)})
        return found

    async def tools(self, index: int) -> Tools:
        """Fresh tools for one attempt at a task."""
        task = self.task(index)
        own = type(task).toolsets(task.config)
        shared = type(self._taskset).toolsets(self.config)
        return await Tools.ready(self._vf, shared=shared, own=own, data=task.data)

    async def score(
        self, index: int, answer: str, calls: Sequence[Mapping[str, Any]], timeout: float
    ) -> dict[str, Any]:
        """The rewards of an answer: their weighted sum, each of them, and the metrics. Raises Failed."""
        task = self.task(index)
        trace = self._trace(task, answer, calls)
        try:
            await asyncio.wait_for(task.score(trace), timeout)
        except TimeoutError:
            raise Failed(f"its rewards took longer than {timeout:g} seconds") from None
        except Exception as error:
            raise Failed(f"its rewards failed ({_line(error)})") from error
        if missing := [name for name, reward in trace.rewards.items() if reward is None]:
            raise Failed(f"its reward {missing[0]} gave nothing")
        if not trace.rewards:
            raise Failed("it gave no reward")
        parts = {name: reward.score for name, reward in trace.rewards.items()}
        metrics = {name: value for name, value in trace.metrics.items() if value is not None}
        return {"reward": trace.reward, "rewards": parts, "metrics": metrics}

    def _trace(self, task: Any, answer: str, calls: Sequence[Mapping[str, Any]]) -> Any:
        """The run as the taskset's rewards know runs: the prompt, each call of a tool with its result, and the answer."""
        vf, data = self._vf, task.data
        trace = vf.Trace(
            task=vf.TraceTask(type=type(task).__name__, data=data, key=task.key, hash=task.hash),
            agent=vf.AgentInfo(config=vf.AgentConfig()),
        )
        prompt = [vf.UserMessage(content=data.prompt)] if isinstance(data.prompt, str) else list(data.prompt)
        if data.system_prompt:
            prompt.insert(0, vf.SystemMessage(content=data.system_prompt))
        messages = [(message, False) for message in prompt]
        for number, call in enumerate(calls):
            arguments = json.dumps(call["arguments"], ensure_ascii=False)
            made = vf.ToolCall(id=f"call_{number}", name=call["tool"], arguments=arguments)
            messages.append((vf.AssistantMessage(tool_calls=[made]), True))
            result = (
                call["result"] if isinstance(call["result"], str) else json.dumps(call["result"], ensure_ascii=False)
            )
            messages.append((vf.ToolMessage(tool_call_id=made.id, content=result, name=made.name), False))
        messages.append((vf.AssistantMessage(content=answer), True))
        for number, (message, sampled) in enumerate(messages):
            trace.nodes.append(vf.MessageNode(parent=number - 1 if number else None, message=message, sampled=sampled))
        trace.stop("agent_completed")
        trace.ok = True
        return trace


def check_version(vf: Any) -> str | None:
    """What this version of verifiers lacks; None if nothing."""
    needed = (
        "load_taskset",
        "taskset_config_type",
        "environment_class",
        "SingleAgentEnv",
        "Task",
        "Trace",
        "MessageNode",
    )
    missing = [name for name in needed if not hasattr(vf, name)]
    if missing or "runtime" not in inspect.signature(vf.Task.score).parameters:
        return ", ".join(missing) or "Task.score(trace, runtime)"
    return None


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text:.300}" if text else type(error).__name__
