"""What a model is made of, so that an actor can make the same one: one or several endpoints, or an embedded policy."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Model, Sampling, Versioned
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.graph import WEIGHTS
from recursive_agent.model.pool import PoolModel, tokens_pool
from recursive_agent.model.remote import RemoteModel
from recursive_agent.model.retry import Retries
from recursive_agent.model.served import ServedCheckpoint
from recursive_agent.model.template import EndpointRenderer
from recursive_agent.model.tokens import TokensModel

_WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth", ".onnx")
"""Files that a checkpoint served elsewhere does not need here."""


class Recipe(Protocol):
    """Makes a model again, in another process. Can be pickled."""

    def make(self, folder: Path, weights: bytes | None) -> Model:
        """The model. Files go into the empty `folder`, which must stay as long as the model is used.

        `weights` is the content of the weights' file, where `weights_of` gives one. Raises ConfigurationError.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRecipe:
    """A model at an endpoint, known by its name."""

    interface: type[ChatModel] | type[TokensModel]
    endpoint: Endpoint
    """Contains the key, which its repr leaves out."""
    sampling: Sampling
    timeout: float
    retries: Retries
    settings: CheckpointSettings | None

    def make(self, folder: Path, weights: bytes | None) -> RemoteModel:
        """See `Recipe`."""
        model = self.interface(
            self.endpoint, sampling=self.sampling, timeout=self.timeout, retries=_own_random(self.retries)
        )
        model.settings = self.settings
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRecipe:
    """A checkpoint at an endpoint that serves it: its tokenizer and settings travel, its weights do not."""

    endpoint: Endpoint
    files: Mapping[str, bytes]
    sampling: Sampling
    timeout: float
    retries: Retries
    settings: CheckpointSettings

    def make(self, folder: Path, weights: bytes | None) -> RemoteModel:
        """See `Recipe`."""
        _write(folder, self.files)
        model = ServedCheckpoint(
            folder,
            self.endpoint.base_url,
            self.endpoint.api_key,
            model=self.endpoint.model,
            timeout=self.timeout,
            retries=_own_random(self.retries),
        )
        model.settings, model.sampling = self.settings, self.sampling
        return model


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedRecipe:
    """A checkpoint that the light runtime runs. Its weights travel apart, since a push replaces them."""

    files: Mapping[str, bytes]
    sampling: Sampling
    settings: CheckpointSettings

    def make(self, folder: Path, weights: bytes | None) -> Model:
        """See `Recipe`."""
        _write(folder, self.files)
        if weights is not None:
            (folder / WEIGHTS).write_bytes(weights)
        return EmbeddedModel(folder, sampling=self.sampling, settings=self.settings)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRecipe:
    """One model at several endpoints. Which of them an agent's calls go to depends on its goal, so all actors agree on it."""

    models: tuple[EndpointRecipe | ServedRecipe, ...]
    returns: bool
    """See `Replicas`."""

    def make(self, folder: Path, weights: bytes | None) -> Model:
        """See `Recipe`."""
        models: list[RemoteModel] = []
        for number, recipe in enumerate(self.models):
            own = folder / str(number)
            own.mkdir()
            models.append(recipe.make(own, None))
        by_endpoint = [model for model in models if type(model) is TokensModel]
        pool: PoolModel[Any] = tokens_pool(by_endpoint) if by_endpoint else PoolModel(models)
        pool.replicas.returns = self.returns
        return pool


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What a push changes of a model, or of one replica of a pool."""

    name: str
    """Name of the model, which a push of an adapter changes."""
    version: str | None
    out: str | None = None
    """Why the replica must not be used: it does not have the weights."""


def recipe_of(model: Model) -> Recipe:
    """What `model` is made of. Raises ConfigurationError for a model that exists in this process only."""
    kind = type(model)  # a subclass may do anything
    if isinstance(model, PoolModel) and kind is PoolModel:
        return PoolRecipe(models=tuple(map(_at_endpoint, model.models)), returns=model.replicas.returns)
    if isinstance(model, RemoteModel):
        return _at_endpoint(model)
    if isinstance(model, EmbeddedModel) and kind is EmbeddedModel:
        return EmbeddedRecipe(
            files=_files(model.directory, without=(".safetensors",)), sampling=model.sampling, settings=model.settings
        )
    raise _only_here(model)


def _at_endpoint(model: RemoteModel) -> EndpointRecipe | ServedRecipe:
    kind = type(model)
    if isinstance(model, ServedCheckpoint) and kind is ServedCheckpoint:
        return ServedRecipe(
            endpoint=model.endpoint,
            files=_files(model.directory, without=_WEIGHTS),
            sampling=model.sampling,
            timeout=model.wire.timeout,
            retries=model.retries,
            settings=model.settings,
        )
    if isinstance(model, ChatModel | TokensModel) and kind in (ChatModel, TokensModel):
        if isinstance(model, TokensModel) and not isinstance(model.renderer, EndpointRenderer):
            raise ConfigurationError(
                f"the model {model.name} has a renderer of its own, which cannot be sent to Ray's actors; use "
                "ServedCheckpoint(DIR, URL)"
            )
        return EndpointRecipe(
            interface=ChatModel if isinstance(model, ChatModel) else TokensModel,
            endpoint=model.endpoint,
            sampling=model.sampling,
            timeout=model.wire.timeout,
            retries=model.retries,
            settings=model.settings,
        )
    raise _only_here(model)


def _only_here(model: Model) -> ConfigurationError:
    return ConfigurationError(
        f"the model {model.name} runs in this process only ({type(model).__name__}), and Ray's actors are others: serve it "
        "(rao serve DIR) and name its address with --base-url (training: sampler.name=vllm-lora, vllm-reload or vllm-nccl, or "
        "sampler.name=embedded for a small policy), or leave out --ray"
    )


def weights_of(model: Model) -> bytes | None:
    """The content of the weights' file, for a model whose actors run it themselves."""
    return (model.weights / WEIGHTS).read_bytes() if isinstance(model, EmbeddedModel) else None


def states_of(model: Model) -> tuple[State, ...]:
    """What actors must know of what was pushed last: one state, or one for each replica of a pool."""
    if isinstance(model, PoolModel):
        return tuple(
            State(name=each.model.name, version=_version(each.model), out=each.out) for each in model.replicas.all
        )
    return (State(name=model.name, version=_version(model)),)


async def adopt(model: Model, states: tuple[State, ...], weights: bytes | None) -> None:
    """Go on with what was pushed: another version of the weights, which may have another name at the endpoint."""
    if isinstance(model, PoolModel):
        for replica, state in zip(model.replicas.all, states, strict=True):
            _tell(replica.model, state)
            if state.out is not None:
                model.take_out(replica.model, state.out)
            elif not replica.in_use and not model.replicas.returns:  # it has been pushed to
                model.bring_back(replica.model)
        return
    (state,) = states
    if isinstance(model, EmbeddedModel):
        if weights is not None:
            scratch = model.directory / f"{WEIGHTS}.partial"
            scratch.write_bytes(weights)
            scratch.replace(model.directory / WEIGHTS)
        await model.load(model.directory, version=state.version or "")
        return
    _tell(model, state)


def _version(model: Model) -> str | None:
    return model.version if isinstance(model, Versioned) else None


def _tell(model: Model, state: State) -> None:
    if isinstance(model, RemoteModel):
        model.name = state.name
    if isinstance(model, TokensModel):
        model.version = state.version


def _files(directory: Path, *, without: tuple[str, ...]) -> dict[str, bytes]:
    try:
        return {
            path.name: path.read_bytes()
            for path in directory.iterdir()
            if path.is_file() and not path.name.endswith((*without, ".partial"))
        }
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be read ({error.strerror})") from error


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).write_bytes(content)


def _own_random(retries: Retries) -> Retries:
    """Actors that failed together must not come back together."""
    return replace(retries, rng=random.Random())
