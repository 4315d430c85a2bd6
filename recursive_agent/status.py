"""How a node ended. What an agent does is data: a status, never an exception."""

from enum import StrEnum


class Status(StrEnum):
    """How one agent of a tree ended; `result.status` is the root's."""

    RUNNING = "running"
    """Not ended yet (seen in live trees, and in the trace of a process that was killed)."""
    FINISHED = "finished"
    """`finish(value)` was called and the value fitted `returns`."""
    STEP_LIMIT = "step_limit"
    """The agent used its `max_steps` model calls without finishing."""
    TOKEN_LIMIT = "token_limit"
    """The agent used up its own share of tokens (or the whole tree's, being the only agent of it)."""
    CONTEXT_OVERFLOW = "context_overflow"
    """The agent's conversation no longer fits the model's context window."""
    MALFORMED = "malformed"
    """The model kept answering without anything that could be run."""
    TREE_BUDGET = "tree_budget"
    """The whole tree's `max_tokens`, shared with other agents, is used up."""
    COST_LIMIT = "cost_limit"
    """The whole tree's `max_cost` is used up."""
    TREE_TIMEOUT = "tree_timeout"
    """The whole tree's `timeout` passed."""
    CANCELLED = "cancelled"
    """The parent ended, or the caller cancelled, before this agent was done."""
    INFRA_ERROR = "infra_error"
    """The endpoint or the sandbox failed after every retry; nobody's doing."""

    @property
    def finished(self) -> bool:
        """Whether the agent gave a result."""
        return self is Status.FINISHED
