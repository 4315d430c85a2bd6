"""How an agent ended, and who caused it. If an agent fails, the result has a status; no exception is raised."""

from enum import StrEnum


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
