"""What a model is made of: it can be sent, and what is made of it elsewhere answers the same."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rao_rl.rollouts.ray.job import Failed
from rao_rl.rollouts.ray.recipe import State, adopt, recipe_of, states_of, weights_of
from recursive_agent.checkpoint import CheckpointSettings
from recursive_agent.errors import ConfigurationError, ModelError, RunFailed
from recursive_agent.messages import Message
from recursive_agent.model import Model, connect
from recursive_agent.model.base import Sampling
from recursive_agent.model.chat import ChatModel
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.endpoint import Endpoint
from recursive_agent.model.retry import Retries
from recursive_agent.model.served import ServedCheckpoint
from recursive_agent.model.tokens import TokensModel

KEY = "sk-recipe-0123456789"
AT = Endpoint("name", "http://10.0.0.7:8000/v1", KEY)


def remade(model: Model, folder: Path) -> Any:
    """The model as an actor makes it."""
    recipe = pickle.loads(pickle.dumps(recipe_of(model)))
    assert KEY not in repr(recipe)
    return recipe.make(folder, weights_of(model))


async def answer(model: Model) -> tuple[Any, ...]:
    conversation = model.conversation()
    conversation.add(Message("user", "goal: craft 1 plank"))
    completion = await conversation.complete(max_tokens=12, seed=5)
    return completion.token_ids, completion.logprobs, completion.version, completion.model


@pytest.mark.anyio
async def test_an_embedded_policy_samples_the_same_elsewhere_and_takes_over_what_is_pushed(tmp_path: Path) -> None:
    model = EmbeddedModel(sampling=Sampling(temperature=1.0), settings=CheckpointSettings.of(SHIPPED))
    other = remade(model, tmp_path)
    assert await answer(other) == await answer(model)
    weights = bytearray(weights_of(model) or b"")
    weights[-4000:] = bytes(4000)
    await adopt(other, (State(name="unused", version="7"),), bytes(weights))
    assert (await answer(other))[2] == other.version == "7"
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.anyio
async def test_a_served_checkpoint_travels_without_its_weights(tmp_path: Path) -> None:
    model = ServedCheckpoint(SHIPPED, AT.base_url, KEY, model="served", timeout=7.0, retries=Retries(limit=2))
    model.settings = model.settings.model_copy(update={"prompt_style": "rich"})
    other = remade(model, tmp_path)
    assert type(other) is ServedCheckpoint
    assert (other.name, other.endpoint, other.settings) == ("served", replace(AT, model="served"), model.settings)
    assert (other.wire.timeout, other.retries.limit, other.secrets) == (7.0, 2, (KEY,))
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".safetensors", ".onnx")]
    await adopt(other, (State(name="rao-1-v2", version="2"),), None)
    assert (other.name, other.version) == ("rao-1-v2", "2")


@pytest.mark.anyio
@pytest.mark.parametrize("interface", ["chat", "tokens"])
async def test_a_pool_is_made_again_and_does_not_use_a_replica_without_the_weights(
    interface: Any, tmp_path: Path
) -> None:
    pool: Any = connect(
        [AT, replace(AT, base_url="http://10.0.0.8:8000/v1")], interface=interface, sampling=Sampling(temperature=0.5)
    )
    pool.replicas.returns = False
    other = remade(pool, tmp_path)
    assert [model.endpoint for model in other.models] == [model.endpoint for model in pool.models]
    assert [type(model) for model in other.models] == [type(model) for model in pool.models]
    assert not other.replicas.returns
    pool.models[1].name = "rao-1-v2"
    pool.take_out(pool.models[0], "the push failed")
    await adopt(other, states_of(pool), None)
    assert [replica.out for replica in other.replicas.all] == ["the push failed", None]
    assert other.models[1].name == "rao-1-v2"
    pool.bring_back(pool.models[0])
    await adopt(other, states_of(pool), None)
    assert all(replica.in_use for replica in other.replicas.all)


@pytest.mark.parametrize(("interface", "kind"), [("chat", ChatModel), ("tokens", TokensModel)])
def test_a_model_at_an_endpoint_is_connected_again(interface: Any, kind: type, tmp_path: Path) -> None:
    model = connect(AT, interface=interface, sampling=Sampling(temperature=0.5), timeout=9.0, max_retries=1)
    model.settings = CheckpointSettings(name="name", prompt_style="minimal")
    other = remade(model, tmp_path)
    assert type(other) is kind
    assert (other.name, other.endpoint, other.sampling) == (model.name, AT, model.sampling)
    assert (other.wire.timeout, other.retries.limit, other.settings) == (9.0, 1, model.settings)
    assert other.retries.rng.random() != model.retries.rng.random()


def test_a_model_of_this_process_alone_is_refused() -> None:
    class Own(ChatModel):
        pass

    with pytest.raises(ConfigurationError, match=r"runs in this process only .Own.*--base-url"):
        recipe_of(Own(AT))


def test_an_error_travels_without_its_run_and_without_what_cannot_be_pickled() -> None:
    class Local(ModelError):
        pass

    error = ModelError("no answer", unconfirmed=3)
    error.result = object()  # type: ignore[assignment]
    failed = pickle.loads(pickle.dumps(Failed.of(error)))
    assert (str(failed.error), failed.error.unconfirmed, failed.error.result) == ("no answer", 3, None)
    assert isinstance(Failed.of(Local("odd")).error, RunFailed)
    assert str(Failed.of(Local("odd")).error) == "Local: odd"
