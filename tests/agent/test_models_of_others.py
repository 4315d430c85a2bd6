"""What a model of the caller's own needs, and what more it may offer."""

from __future__ import annotations

from pathlib import Path

import pytest

from recursive_agent import (
    Agent,
    CheckpointSettings,
    Explaining,
    Keyed,
    Limits,
    Model,
    Status,
    Throttled,
    Trained,
    Versioned,
)
from recursive_agent.model import connect, resolve_endpoint
from recursive_agent.testing import Fault, ScriptedEndpoint

from .faults import FaultyModel
from .helpers import py

pytestmark = pytest.mark.anyio
KEY = "sk-secret-of-this-model"
OPTIONAL = (Trained, Keyed, Versioned, Throttled, Explaining)


class PlainModel(FaultyModel):
    """What a model needs, and nothing more."""

    def __init__(self, model: Model) -> None:
        super().__init__(model, "nowhere", lambda: None)


class RichModel(PlainModel):
    """A model that offers all there is."""

    settings = CheckpointSettings(name="rich", prompt_style="minimal", action_format="tags")
    secrets = (KEY,)
    version = "7"
    trouble = "the cable is loose"


async def test_the_members_of_the_protocol_are_all_that_a_model_needs(tmp_path: Path) -> None:
    with ScriptedEndpoint(lambda request: py("finish(1)")) as endpoint:
        inner = connect(resolve_endpoint("scripted", endpoint.base_url))
        model = PlainModel(inner)
        assert isinstance(model, Model)
        assert not any(isinstance(model, offer) for offer in OPTIONAL)
        agent = Agent(model, trace_dir=tmp_path)
        assert (agent.prompt_style, agent.action_format) == ("rich", "fenced")
        assert (await agent.solve("one")).output == 1
        await inner.aclose()


async def test_a_models_own_prompt_is_used_and_its_secrets_stay_out_of_the_trace(tmp_path: Path) -> None:
    with ScriptedEndpoint(lambda request: f"<python>finish('the key is {KEY}')</python>") as endpoint:
        inner = connect(resolve_endpoint("scripted", endpoint.base_url))
        agent = Agent(RichModel(inner), trace_dir=tmp_path)
        assert (agent.prompt_style, agent.action_format) == ("minimal", "tags")
        result = await agent.solve("tell")
        await inner.aclose()
    assert result.output == f"the key is {KEY}"
    assert result.trace_path is not None
    assert KEY not in result.trace_path.read_text()


async def test_key_and_password_of_an_endpoint_stay_out_of_the_trace_where_a_model_is_given(tmp_path: Path) -> None:
    with ScriptedEndpoint(lambda request: py(f"finish({'hunter-22 and ' + KEY!r})")) as endpoint:
        model = connect(resolve_endpoint("scripted", endpoint.base_url.replace("//", "//me:hunter-22@"), KEY))
        result = await Agent(model, trace_dir=tmp_path).solve("tell")
        await model.aclose()
    assert result.trace_path is not None
    trace = result.trace_path.read_text()
    assert KEY not in trace
    assert "hunter-22" not in trace


async def test_why_a_call_failed_is_part_of_why_the_time_ran_out() -> None:
    with ScriptedEndpoint(lambda request: Fault("hang")) as endpoint:
        inner = connect(resolve_endpoint("scripted", endpoint.base_url))
        result = await Agent(RichModel(inner), limits=Limits(timeout=0.5)).solve("wait")
        await inner.aclose()
    assert result.status is Status.TREE_TIMEOUT
    assert result.reason is not None
    assert result.reason.endswith("the last attempt at a call failed: the cable is loose")
