"""How an agent ended, and who caused it; and for one that runs, what it does or waits for.

If an agent fails, the result has a status; no exception is raised. The words and marks in `LABELS` are those of everything
that shows agents (the live tree, `rao trace show`, the viewer), so that they cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How one agent of a tree ended; `result.status` is the status of the root.

    An agent that did not finish either caused this itself (`own_failure`), or was stopped because the whole tree reached
    a limit (`shared_limit`), or for a reason outside the agents (`external`). Every status except RUNNING and FINISHED
    belongs to exactly one of these three kinds.
    """

    RUNNING = "running"
    """The agent has not ended (in a tree that is still running, or in the trace of a process that was killed)."""
    FINISHED = "finished"
    """The agent called `finish(value)`, and the value fits `returns`."""
    STEP_LIMIT = "step_limit"
    """The agent used its `max_steps` model calls without finishing."""
    TOKEN_LIMIT = "token_limit"
    """The agent used all tokens of its share, or all tokens of the tree while it was the only agent."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The agent's conversation no longer fits the model's context window."""
    MALFORMED = "malformed"
    """The model gave too many answers in a row without code (see `Limits.max_malformed`)."""
    TREE_BUDGET = "tree_budget"
    """The agents of the tree together used all of `max_tokens`."""
    COST_LIMIT = "cost_limit"
    """The agents of the tree together used all of `max_cost`."""
    TREE_TIMEOUT = "tree_timeout"
    """The run took longer than `timeout`."""
    CANCELLED = "cancelled"
    """The agent was stopped because its parent ended or the caller cancelled the run."""
    INFRA_ERROR = "infra_error"
    """The endpoint or the sandbox failed after every retry; not the agent's fault."""

    @property
    def finished(self) -> bool:
        """Whether the agent returned a result."""
        return self is Status.FINISHED

    @property
    def own_failure(self) -> bool:
        """Whether the agent caused the failure: it used up its own limits, or did not answer with code."""
        return self in (Status.STEP_LIMIT, Status.TOKEN_LIMIT, Status.CONTEXT_OVERFLOW, Status.MALFORMED)

    @property
    def shared_limit(self) -> bool:
        """Whether the whole tree used up its tokens, money or time. This counts as a failure of the root only."""
        return self in (Status.TREE_BUDGET, Status.COST_LIMIT, Status.TREE_TIMEOUT)

    @property
    def external(self) -> bool:
        """Whether the agents did not cause the failure: the run was cancelled, or the endpoint or the sandbox failed."""
        return self in (Status.CANCELLED, Status.INFRA_ERROR)


class Activity(StrEnum):
    """What an agent that runs does now, or waits for (`waits`)."""

    MODEL = "model_call"
    """Its model call is under way."""
    CODE = "code"
    """Its code runs, with the tools that the code calls."""
    SUBAGENTS = "subagents"
    """Its code waits for sub-agents."""
    SLOT = "slot"
    """As many model calls are under way as `Limits.max_concurrency` (or that of its model) allows."""
    RATE_LIMIT = "rate_limit"
    """Its model call waits until the endpoint takes calls again."""
    RETRY = "retry"
    """Its model call failed, and is made again after a pause."""
    BUDGET = "budget"
    """Other calls hold what is left of the tokens or the money, and may give some of it back."""
    APPROVAL = "approval"
    """Its code waits until the caller approves a call."""
    PAUSED = "paused"
    """The caller has paused the run."""

    @property
    def waits(self) -> bool:
        """Whether the agent itself does nothing."""
        return self not in (Activity.MODEL, Activity.CODE)


@dataclass(frozen=True, slots=True)
class Label:
    """How a status or an activity is shown, in words and, also where there is no colour, by a mark."""

    words: str
    short: str
    """For narrow screens and for counts ("12 slot")."""
    mark: str
    ascii: str
    """The mark where only ASCII can be shown."""
    tone: Literal["active", "waiting", "good", "bad", "neutral"]
    """What the colour says."""


def _bad(words: str) -> Label:
    return Label(words, words, "✗", "x", "bad")


LABELS: Mapping[Status | Activity, Label] = {
    Activity.MODEL: Label("model call", "model", "●", "*", "active"),
    Activity.CODE: Label("runs code", "code", "●", "*", "active"),
    Activity.SUBAGENTS: Label("waits for sub-agents", "sub-agents", "○", "o", "waiting"),
    Activity.SLOT: Label("waits for a slot", "slot", "○", "o", "waiting"),
    Activity.RATE_LIMIT: Label("waits for rate limit", "rate limit", "○", "o", "waiting"),
    Activity.RETRY: Label("waits to retry", "retry", "○", "o", "waiting"),
    Activity.BUDGET: Label("waits for budget", "budget", "○", "o", "waiting"),
    Activity.APPROVAL: Label("waits for approval", "approval", "○", "o", "waiting"),
    Activity.PAUSED: Label("paused", "paused", "○", "o", "waiting"),
    Status.RUNNING: Label("running", "running", "●", "*", "active"),
    Status.FINISHED: Label("finished", "finished", "✓", "+", "good"),
    Status.STEP_LIMIT: _bad("step limit"),
    Status.TOKEN_LIMIT: _bad("token limit"),
    Status.CONTEXT_OVERFLOW: _bad("context overflow"),
    Status.MALFORMED: _bad("malformed"),
    Status.TREE_BUDGET: _bad("tree budget"),
    Status.COST_LIMIT: _bad("cost limit"),
    Status.TREE_TIMEOUT: _bad("tree timeout"),
    Status.CANCELLED: Label("cancelled", "cancelled", "⊘", "-", "neutral"),
    Status.INFRA_ERROR: _bad("infra error"),
}
"""Every status and activity as it is shown."""
NEVER_ENDED = Label("never ended", "never ended", "✗", "x", "bad")
"""An agent without an end in a run that has ended: its process was killed, or could not write."""
