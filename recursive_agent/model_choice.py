"""`Agent(models=..., choose=...)`: the caller's settings of several models, checked, and the models opened from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from .checks import is_whole, of_kind, one_of, sampling_over
from .errors import ConfigurationError
from .limits import Limits, Prices
from .model import attempt_timeout, connect, resolve_endpoints
from .model.base import Keyed, Model, Sampling, Trained
from .model.endpoint import Endpoint
from .run_config import LaunchInfo, Rule, RunConfig
from .styles import ActionFormat, PromptStyle


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """One of the models of `Agent(models=...)`; what is left out is as for the agent's own model, apart from the prices.

    With a `base_url` of its own, a model has its own key too: `api_key`, or OPENAI_API_KEY. The agent's key is sent to the
    agent's endpoint only.
    """

    model: str | Model
    """A name at an OpenAI-compatible endpoint, or a `Model` object."""
    base_url: str | Sequence[str] | None = None
    """The endpoint, or several of one model; default: the agent's."""
    api_key: str | None = field(default=None, repr=False)
    prices: Mapping[str, float] | Prices | None = None
    """Per million tokens. `Limits.max_cost` needs the prices of every model."""
    sampling: Mapping[str, Any] | None = None
    """Takes the place of the agent's `sampling` for this model."""
    interface: Literal["chat", "tokens"] | None = None
    prompt_style: PromptStyle | None = None
    action_format: ActionFormat | None = None
    bare_code: bool | None = None
    context_limit: int | None = None
    max_concurrency: int | None = None
    """Calls of this model at the same time, within `Limits.max_concurrency`."""
    trainable: bool = True
    """False for a frozen helper or verifier: training leaves its agents out."""
    description: str | None = None
    """What agents that choose a model are told of this one ("cheap; good at extraction")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What the agent's own settings say for models that do not say it."""

    base_url: str | Sequence[str] | None
    api_key: str | None
    interface: Literal["chat", "tokens"]
    prompt_style: PromptStyle | None
    action_format: ActionFormat | None
    bare_code: bool | None
    context_limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherModel:
    """A model beside the agent's own, ready to be opened."""

    source: tuple[Endpoint, ...] | Model
    interface: Literal["chat", "tokens"]
    prices: Prices | None
    sampling: Mapping[str, Any] | None
    prompt_style: PromptStyle
    action_format: ActionFormat
    bare_code: bool
    context_limit: int | None
    max_concurrency: int | None
    trainable: bool
    description: str | None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What traces must not contain."""
        if isinstance(self.source, tuple):
            return secrets_of(self.source)
        return self.source.secrets if isinstance(self.source, Keyed) else ()

    def sampling_under(self, changes: Mapping[str, Any]) -> Sampling:
        """How it samples, where the agent's own `sampling` is `changes`. Raises ConfigurationError."""
        own = Sampling() if isinstance(self.source, tuple) else self.source.sampling
        return sampling_over(own, changes if self.sampling is None else self.sampling)

    def open(
        self, stack: AsyncExitStack, *, changes: Mapping[str, Any], timeout: float | None, run: float | None
    ) -> Model:
        """The model, closed with the stack if it was opened here."""
        if not isinstance(self.source, tuple):
            return self.source
        model = at_endpoint(self.source, self.interface, self.sampling_under(changes), timeout=timeout, run=run)
        stack.push_async_callback(model.aclose)
        return model

    def config(self, name: str, model: Model, first: RunConfig, changes: Mapping[str, Any]) -> RunConfig:
        """The settings of the agents that have this model; what is not of a model is that of `first`."""
        return replace(
            first,
            model=model,
            name=name,
            prices=self.prices,
            sampling=self.sampling_under(changes),
            prompt_style=self.prompt_style,
            action_format=self.action_format,
            bare_code=self.bare_code,
            context_limit=self.context_limit,
            max_concurrency=self.max_concurrency,
            trainable=self.trainable,
            description=self.description,
            others={},
            rule=None,
        )


def secrets_of(endpoints: Sequence[Endpoint]) -> tuple[str, ...]:
    """What traces must not contain."""
    return tuple(dict.fromkeys(secret for endpoint in endpoints for secret in endpoint.secrets))


def check_base_url(where: str, base_url: object) -> None:
    """Raises ConfigurationError where it is neither text nor a list of texts."""
    texts = [base_url] if base_url is None or isinstance(base_url, str) else base_url
    if not isinstance(texts, Sequence) or not texts or not all(isinstance(text, str | None) for text in texts):
        raise ConfigurationError(f"{where} must be text or a list of texts, not {base_url!r:.80}")


def at_endpoint(
    endpoints: tuple[Endpoint, ...],
    interface: Literal["chat", "tokens"],
    sampling: Sampling,
    *,
    timeout: float | None,
    run: float | None,
) -> Model:
    """A connection for runs of at most `run` seconds; `timeout` (seconds) limits each request."""
    return connect(
        endpoints,
        interface=interface,
        sampling=sampling,
        timeout=timeout or attempt_timeout(run),
        patience=900.0 if run is None else None,  # the end of the run ends a call that waits as well
    )


def read_models(models: Mapping[str, Any] | None) -> dict[str, ModelChoice]:
    """The models by name; a name at the endpoint and a `Model` become a `ModelChoice`. Raises ConfigurationError."""
    of_kind("models", models, Mapping, "a mapping of names to models")
    found: dict[str, ModelChoice] = {}
    for name, given in (models or {}).items():
        if not isinstance(name, str) or not name.strip():
            raise ConfigurationError(f"models must have names as keys, not {name!r:.80}")
        choice = given if isinstance(given, ModelChoice) else None
        if choice is None and isinstance(given, str | Model):
            choice = ModelChoice(model=given)
        if choice is None or not isinstance(choice.model, str | Model) or not choice.model:
            raise ConfigurationError(
                f"models[{name!r}] must be the name of a model, a Model or a ModelChoice, not {given!r:.80}"
            )
        found[name] = choice
    return found


def check_choice(where: str, choice: ModelChoice) -> None:
    """Raises ConfigurationError for a setting of another kind."""
    check_base_url(f"{where}.base_url", choice.base_url)
    for key, kind, meant in (
        ("api_key", str, "text"),
        ("sampling", Mapping, "a mapping"),
        ("bare_code", bool, "True or False"),
        ("description", str, "text"),
    ):
        of_kind(f"{where}.{key}", getattr(choice, key), kind, meant)
    if not isinstance(choice.trainable, bool):
        raise ConfigurationError(f"{where}.trainable must be True or False, not {choice.trainable!r:.80}")
    for key in ("context_limit", "max_concurrency"):
        value = getattr(choice, key)
        if value is not None and (not is_whole(value) or value < 1):
            raise ConfigurationError(f"{where}.{key} must be a whole number of at least 1, not {value!r:.80}")
    idle = [key for key in ("base_url", "api_key", "interface") if getattr(choice, key) is not None]
    if idle and not isinstance(choice.model, str):
        raise ConfigurationError(f"{where} is a Model, which has its own connection: leave out {', '.join(idle)}")
    one_of(f"{where}.interface", choice.interface, (None, "chat", "tokens"))
    one_of(f"{where}.prompt_style", choice.prompt_style, (None, *get_args(PromptStyle)))
    one_of(f"{where}.action_format", choice.action_format, (None, *get_args(ActionFormat)))


def resolve(name: str, choice: ModelChoice, defaults: Defaults) -> OtherModel:
    """A model beside the agent's own. Raises ConfigurationError, which names it."""
    where = f"models[{name!r}]"
    check_choice(where, choice)
    settings = choice.model.settings if isinstance(choice.model, Trained) else None
    style = choice.prompt_style or (settings.prompt_style if settings else defaults.prompt_style or "rich")
    written = choice.action_format or (settings.action_format if settings else defaults.action_format or "fenced")
    bare = defaults.bare_code if choice.bare_code is None else choice.bare_code
    source: tuple[Endpoint, ...] | Model
    if isinstance(choice.model, str):
        elsewhere = choice.base_url is not None and choice.base_url != defaults.base_url
        key = choice.api_key or (None if elsewhere else defaults.api_key)
        try:
            source = resolve_endpoints(choice.model, choice.base_url or defaults.base_url, key)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from None
    else:
        source = choice.model
    other = OtherModel(
        source=source,
        interface=choice.interface or defaults.interface,
        prices=Prices.of(choice.prices),
        sampling=None if choice.sampling is None else dict(choice.sampling),
        prompt_style=style,
        action_format=written,
        bare_code=style == "rich" if bare is None else bare,
        context_limit=defaults.context_limit if choice.context_limit is None else choice.context_limit,
        max_concurrency=choice.max_concurrency,
        trainable=choice.trainable,
        description=choice.description,
    )
    other.sampling_under({})
    return other


@dataclass(frozen=True, slots=True)
class ByDepth:
    """The rule that a mapping of depths is."""

    names: Mapping[int, str]

    def __call__(self, launch: LaunchInfo) -> str | None:
        """The name for the depth of this launch, if the mapping has one."""
        return self.names.get(launch.depth)


def read_rule(choose: Any, names: list[str]) -> Rule | None:
    """The rule that `choose` is: a function as it is, or a mapping of depths to names. Raises ConfigurationError."""
    if choose is None:
        return None
    if not names:
        raise ConfigurationError("choose needs models={name: model, …} to choose from")
    if callable(choose):
        rule: Rule = choose
        return rule
    if not isinstance(choose, Mapping):
        raise ConfigurationError(f"choose must be a mapping of depths to names, or a function, not {choose!r:.80}")
    for depth, name in choose.items():
        if not is_whole(depth) or depth < 0:
            raise ConfigurationError(f"choose must have depths as keys (0 for the root), not {depth!r:.80}")
        if name not in names:
            raise ConfigurationError(f"choose[{depth}] must be one of {', '.join(map(repr, names))}, not {name!r:.80}")
    return ByDepth(dict(choose))


def check_all_prices(limits: Limits, others: Mapping[str, OtherModel]) -> None:
    """A limit of cost needs the prices of every model."""
    for name, each in others.items():
        if limits.max_cost is not None and each.prices is None:
            raise ConfigurationError(
                f"Limits.max_cost needs the prices of every model: give models[{name!r}] as "
                "ModelChoice(model=…, prices={'prompt': …, 'completion': …}) (per million tokens)"
            )
