"""Every exception of this package, beside those of `recursive_agent.errors`.

    RaoError                                the base, of recursive_agent
    ├── ConfigurationError (ValueError)     a setting or an argument is wrong (of recursive_agent)
    │   ├── UnknownGoal                     a goal that does not belong to the environment
    │   └── VllmMissing                     vLLM is not installed for the chosen Python
    ├── EndedElsewhere                      another process of a training on several processes ended it, and says why
    ├── ProcessLost                         another process of a training on several processes is gone
    ├── DataError (ValueError)              recorded traces, scores or rows cannot be used, though the settings are right
    ├── JudgeError                          the judge answered, but not with a verdict
    │   └── JudgeTooSlow                    the judge did not answer in time
    ├── JudgeFailed (EndpointUnavailable)   many verdicts in a row failed, since the judge did
    ├── NothingToLearn                      an online run cannot learn from any batch
    ├── RolloutsFailed (EndpointUnavailable) many attempts in a row failed, since the endpoint or the sandbox did
    ├── TrainingDiverged                    the loss, its gradient or the weights are no longer finite numbers
    ├── TrainingStopped                     a signal ended a training run; its last step is saved
    ├── WeightPushError                     the sampler does not use the weights that were pushed
    └── VllmEnded                           vLLM ended before it was ready

Each message is one sentence that says what to do. The command line ends with status 2 for a ConfigurationError and a
DataError alike. If an *agent* fails, its node has a status; no exception is raised.
"""

from __future__ import annotations

import signal

from recursive_agent.errors import ConfigurationError, EndpointUnavailable, RaoError


class UnknownGoal(ConfigurationError):
    """A goal that does not belong to an environment; the message shows what its goals look like."""


class DataError(RaoError, ValueError):
    """Recorded traces, scores or rows cannot be used for this; the message names them and says what to do."""


class JudgeError(RaoError):
    """The judge answered, but not with a verdict."""


class JudgeTooSlow(JudgeError):
    """The judge did not give its verdict in time."""


class JudgeFailed(EndpointUnavailable):
    """Many verdicts in a row failed: the judge's endpoint is gone, too slow, or what answers there is no judge."""


class EndedElsewhere(RaoError):
    """Process 0 of a training on several processes ended the run. It says why; the others need not say it again."""


class ProcessLost(RaoError):
    """Another process of a training on several processes is gone."""


class NothingToLearn(RaoError):
    """Training cannot learn from any batch; the message says what to change."""


class RolloutsFailed(EndpointUnavailable):
    """Many attempts in a row failed, and not by the agents' doing: the endpoint or the sandbox that they need is gone."""


class TrainingDiverged(RaoError):
    """The loss, its gradient or the weights are no longer finite numbers; the message says what to do."""


class TrainingStopped(RaoError):
    """A signal ended the run early, at a step whose checkpoint was saved."""

    def __init__(self, number: signal.Signals, step: int) -> None:
        super().__init__(f"stopped by {number.name} at step {step:,}, which is saved: continue with --resume")
        self.number = number
        self.step = step

    def __reduce__(self) -> tuple[type[TrainingStopped], tuple[signal.Signals, int]]:
        return type(self), (self.number, self.step)


class WeightPushError(RaoError):
    """The sampler does not use the weights that were pushed, so its samples must not be used for training."""


class VllmEnded(RaoError):
    """vLLM ended before it was ready. `status` is its exit status, as shells write it; `lines` are its last ones."""

    def __init__(self, status: int, lines: list[str]) -> None:
        super().__init__(f"vLLM ended with status {status} before it was ready.")
        self.status = status
        self.lines = lines

    def __reduce__(self) -> tuple[type[VllmEnded], tuple[int, list[str]]]:
        return type(self), (self.status, self.lines)


class VllmMissing(ConfigurationError):
    """vLLM is not installed for the chosen Python interpreter; the message says what to do."""
