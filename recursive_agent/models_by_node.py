"""Which model each agent of a tree has, and which of them are gone.

The rule of the caller goes first. Where there is none, or it gives None, an agent has the model that its parent asked for;
where the parent did not ask, it has its parent's model. The root has the first model of the run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .errors import ConfigurationError, message
from .limits import Slots
from .model.base import Explaining, Model, OnWait, Throttled, Waiting
from .repl.base import HostCallError
from .run_config import LaunchInfo, RunConfig


class ModelsByNode:
    """The models of one tree. Without `config.others` every agent has the one model, whose name is None."""

    def __init__(self, config: RunConfig, slots: Slots) -> None:
        self._first = config
        self._configs: dict[str | None, RunConfig] = {config.name: config}
        self._configs.update(config.others)
        self._slots = {
            name: slots if each.max_concurrency is None else Slots(each.max_concurrency, within=slots)
            for name, each in self._configs.items()
        }
        self._root = config.name
        self._gone: dict[str | None, str] = {}

    def config(self, name: str | None) -> RunConfig:
        """The settings of the agents with this model."""
        return self._configs[name]

    def slots(self, name: str | None) -> Slots:
        """The slots that calls of this model take."""
        return self._slots[name]

    @property
    def offered(self) -> dict[str, RunConfig]:
        """The models that parents choose from, by name; none where there is one model, or the caller has a rule."""
        if self._first.rule is not None or not self._first.others:
            return {}
        return {name: each for name, each in self._configs.items() if name is not None}

    @property
    def models(self) -> list[Model]:
        """Every model object once."""
        return list({id(each.model): each.model for each in self._configs.values()}.values())

    def again(self, name: str | None) -> str | None:
        """The model of an agent that had the one with this name in an interrupted run: the root's, where there is none."""
        return name if name in self._configs else self._root

    def of_root(self, goal: str, context: object, before: str | None = None) -> str | None:
        """The root's model; `before` is the one that it had in an interrupted run.

        Raises ConfigurationError where the rule names one that there is not.
        """
        info = LaunchInfo(goal=goal, context=context, depth=0, parent=None, parent_model=None, asked=None)
        ruled = self._ruled(info)
        known = before if before in self._configs else self._first.name
        self._root = known if ruled is None else ruled
        return self._root

    def of_child(self, info: LaunchInfo) -> str | None:
        """A child's model.

        Raises HostCallError for a name that the parent may not ask for, or a model whose endpoint takes no calls any more;
        what the rule raises, and ConfigurationError where it names a model that there is not.
        """
        if info.asked is not None and (info.asked not in self._configs or self._first.name is None):
            raise HostCallError("LaunchRefused", f"there is no model {info.asked[:80]!r}; {self._choices()}")
        name = self._ruled(info) or info.asked or info.parent_model
        if (reason := self._gone.get(name)) is not None:
            others = [repr(other) for other in self._configs if other not in self._gone]
            advice = f"ask for another one ({', '.join(others)})" if self.offered and others else "do the work yourself"
            raise HostCallError("LaunchRefused", f"the model {name!r} takes no calls any more ({reason}); {advice}")
        return name

    def lost(self, name: str | None, error: Exception) -> bool:
        """Note that no call of this model can succeed any more. Whether that ends the tree: it does if the root has it."""
        if name == self._root:
            return True
        self._gone[name] = message(error)
        return False

    @contextmanager
    def on_wait(self, listener: OnWait) -> Iterator[None]:
        """While the block lasts, call `listener` when calls of any model wait for its endpoint, and when they flow."""

        def heard(waiting: Waiting | None) -> None:
            listener(self._waiting if waiting is None else waiting)

        with ExitStack() as stack:
            for model in self.models:
                if isinstance(model, Throttled):
                    stack.enter_context(model.on_wait(heard))
            yield

    @property
    def _waiting(self) -> Waiting | None:
        throttled = (model for model in self.models if isinstance(model, Throttled))
        return next((model.waiting for model in throttled if model.waiting is not None), None)

    @property
    def trouble(self) -> str | None:
        """What calls wait for, or why the last attempt of one failed, in words that end a sentence; None without either."""
        if (waiting := self._waiting) is not None:
            return f" while calls waited for the endpoint: {waiting.reason}"
        for model in self.models:
            if isinstance(model, Explaining) and model.trouble is not None:
                return f"; the last attempt at a call failed: {model.trouble}"
        return None

    def _ruled(self, info: LaunchInfo) -> str | None:
        """The name that the caller's rule gives; None where it gives none, or there is no rule."""
        rule = self._first.rule
        name = None if rule is None else rule(info)
        if name is not None and (self._first.name is None or name not in self._configs):
            raise ConfigurationError(f"choose gave {name!r:.80}; it must give None or one of {self._names()}")
        return name

    def _choices(self) -> str:
        if self._first.name is None:
            return "leave out `model`: this run has one model"
        return f"leave out `model`, or give one of {self._names()}"

    def _names(self) -> str:
        return ", ".join(repr(name) for name in self._configs)
