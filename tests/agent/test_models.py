"""Several models in one tree: who has which, what each costs, and what happens when one of them is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from recursive_agent import (
    Agent,
    ConfigurationError,
    EndpointUnavailable,
    ExecutionTree,
    LaunchInfo,
    Limits,
    ModelChoice,
    Prices,
    RunFailed,
    Status,
    Usage,
    connect,
    resolve_endpoint,
)
from recursive_agent.errors import AuthenticationFailed
from recursive_agent.testing import ScriptedEndpoint, by_goal

from .helpers import observations, py

pytestmark = pytest.mark.anyio

BIG, FAST = {"prompt": 10.0, "completion": 20.0}, {"prompt": 1.0, "completion": 2.0}
ASKS = py("finish(await launch_subagent('child', model='fast'))")
CATCHES = py(
    """
    try:
        finish(await launch_subagent('child', model='fast'))
    except (LaunchRefused, SubagentError) as error:
        print(type(error).__name__, error)
    """
)


@contextmanager
def two(big: dict[str, Any], fast: dict[str, Any]) -> Iterator[tuple[ScriptedEndpoint, ScriptedEndpoint]]:
    """A large and a small model, each at an endpoint with a key of its own."""
    with (
        ScriptedEndpoint(by_goal(big), models=["large"], api_key="sk-key-of-the-large-one") as first,
        ScriptedEndpoint(by_goal(fast), models=["small"], api_key="sk-key-of-the-small-one") as second,
    ):
        yield first, second


def agent_of(first: ScriptedEndpoint, second: ScriptedEndpoint, **settings: Any) -> Agent:
    fast = ModelChoice(
        model="small",
        base_url=second.base_url,
        api_key=settings.pop("fast_key", "sk-key-of-the-small-one"),
        prices=FAST,
        description="cheap; good at extraction",
        **settings.pop("fast", {}),
    )
    return Agent(
        "large",
        first.base_url,
        "sk-key-of-the-large-one",
        prices=BIG,
        models={"fast": fast, **settings.pop("more", {})},
        **settings,
    )


async def test_a_parent_chooses_from_the_models_that_its_prompt_names(tmp_path: Path) -> None:
    with two({"root": ASKS}, {"child": py("finish('found')")}) as (first, second):
        agent = agent_of(first, second, trace_dir=tmp_path, fast={"trainable": False}, limits=Limits(max_cost=1.0))
        result = await agent.solve("root")
    assert result.output == "found"
    tree = result.tree
    assert [(node.model, node.trainable) for node in tree.walk()] == [("large", True), ("fast", False)]
    assert first.ledger.total_tokens == tree.root.usage.total_tokens
    assert second.ledger.total_tokens == tree.nodes["0.0"].usage.total_tokens
    costs = {name: usage.cost for name, usage in tree.usage_by_model.items()}
    assert costs == {
        "large": Prices(**BIG).of_usage(tree.root.usage),
        "fast": Prices(**FAST).of_usage(tree.nodes["0.0"].usage),
    }
    system = first.requests[0].text("system")
    assert "max_tokens=None, model=None)" in system
    assert (
        "it has yours ('large'). The models:\n        'large': 10 / 20 per million prompt / completion tokens" in system
    )
    assert "'fast': cheap; good at extraction; 1 / 2 per million prompt / completion tokens" in system
    assert {name: each["model"] for name, each in tree.settings["models"].items()} == {
        "large": "large",
        "fast": "small",
    }
    assert result.trace_path is not None
    written = result.trace_path.read_bytes()
    assert b"sk-key-of" not in written
    again = ExecutionTree.load(result.trace_path)
    assert [(node.model, node.trainable) for node in again.walk()] == [("large", True), ("fast", False)]
    assert again.usage_by_model == tree.usage_by_model


async def test_a_key_that_stands_in_a_goal_is_redacted_whichever_endpoint_it_belongs_to(tmp_path: Path) -> None:
    with two({"root": py("finish('sk-key-of-the-small-one')")}, {}) as (first, second):
        result = await agent_of(first, second, trace_dir=tmp_path).solve("root")
    assert result.trace_path is not None
    assert b"sk-key-of-the-small-one" not in result.trace_path.read_bytes()


async def test_with_one_model_prompts_and_calls_are_as_they_were() -> None:
    script = by_goal({"root": [CATCHES, py("finish(await launch_subagent('child'))")], "child": py("finish(1)")})
    with ScriptedEndpoint(script) as endpoint:
        result = await Agent("scripted", endpoint.base_url).solve("root")
    assert "model=None" not in endpoint.requests[0].text("system")
    assert "there is no model 'fast'; leave out `model`: this run has one model" in observations(result)[0]
    assert [node.model for node in result.tree.walk()] == [None, None]
    assert "models" not in result.tree.settings
    launches = [call for step in result.tree.root.steps for call in step.calls]
    assert "model" not in launches[1].kwargs
    assert result.tree.usage_by_model == {"scripted": result.usage}


async def test_a_name_that_there_is_not_is_refused_with_the_names() -> None:
    code = CATCHES.replace("'fast'", "'fats'")
    with two({"root": [code, py("finish(0)")]}, {}) as (first, second):
        result = await agent_of(first, second).solve("root")
    assert "no model 'fats'; leave out `model`, or give one of 'large', 'fast'" in observations(result)[0]
    assert result.tree.refused_launches == 1


async def test_a_child_has_its_parents_model_where_nothing_is_said() -> None:
    child = py("finish(await launch_subagent('grandson'))")
    with two({"root": ASKS}, {"child": child, "grandson": py("finish(7)")}) as (first, second):
        result = await agent_of(first, second).solve("root")
    assert result.output == 7
    assert [node.model for node in result.tree.walk()] == ["large", "fast", "fast"]


async def test_depths_choose_and_the_prompt_then_offers_nothing() -> None:
    child = py("finish(await launch_subagent('grandson'))")
    with two({"root": child.replace("grandson", "child")}, {"child": child, "grandson": py("finish(7)")}) as ends:
        result = await agent_of(*ends, choose={1: "fast"}).solve("root")
        assert "model=None" not in ends[0].requests[0].text("system")
    assert [node.model for node in result.tree.walk()] == ["large", "fast", "fast"]


async def test_a_rule_goes_before_the_parents_wish_and_may_leave_it_to_it() -> None:
    seen: list[LaunchInfo] = []

    def rule(launch: LaunchInfo) -> str | None:
        seen.append(launch)
        return "large" if launch.goal == "child" else None

    root = py("finish([await launch_subagent(g, model='fast') for g in ('child', 'other')])")
    with two({"root": root, "child": py("finish(1)")}, {"other": py("finish(2)")}) as ends:
        result = await agent_of(*ends, choose=rule).solve("root", context=[5])
    assert result.output == [1, 2]
    assert [node.model for node in result.tree.walk()] == ["large", "large", "fast"]
    assert seen[0] == LaunchInfo(goal="root", context=[5], depth=0, parent=None, parent_model=None, asked=None)
    assert seen[2] == LaunchInfo(goal="other", context=None, depth=1, parent="0", parent_model="large", asked="fast")


@pytest.mark.parametrize("depth", [0, 1])
async def test_a_rule_that_fails_ends_the_run(depth: int) -> None:
    def raises(launch: LaunchInfo) -> str | None:
        if launch.depth == depth:
            raise KeyError("rule")
        return None

    with two({"root": ASKS}, {}) as ends:
        with pytest.raises(RunFailed, match="KeyError"):
            await agent_of(*ends, choose=raises).solve("root")
        with pytest.raises(
            ConfigurationError, match="choose gave 'nobody'; it must give None or one of 'large', 'fast'"
        ):
            await agent_of(*ends, choose=lambda launch: "nobody" if launch.depth == depth else None).solve("root")


async def test_an_endpoint_that_is_gone_ends_the_agents_of_its_model_and_not_the_tree() -> None:
    root = [CATCHES, CATCHES, py("finish(await launch_subagent('child', model='large'))")]
    with two({"root": root, "child": py("finish(3)")}, {"child": "never"}) as ends:
        result = await agent_of(*ends, fast_key="sk-a-wrong-key").solve("root")
    assert result.output == 3
    first, second = observations(result)
    assert "SubagentError" in first
    assert "infra_error" in first
    assert "LaunchRefused the model 'fast' takes no calls any more" in second
    assert "ask for another one ('large')" in second
    assert [node.status for node in result.tree.walk()] == [Status.FINISHED, Status.INFRA_ERROR, Status.FINISHED]


async def test_an_endpoint_that_the_root_needs_ends_the_tree() -> None:
    with two({"root": ASKS}, {"child": "never"}) as ends:
        agent = agent_of(*ends, fast_key="sk-a-wrong-key", choose={0: "fast"})
        with pytest.raises(AuthenticationFailed):
            await agent.solve("root")


async def test_an_endpoint_that_does_not_answer_is_tried_again_by_the_next_agent() -> None:
    with two({"root": [CATCHES, CATCHES]}, {}) as (first, _):
        gone = connect(resolve_endpoint("small", "http://127.0.0.1:9/v1", "a-placeholder"), max_retries=0)
        agent = agent_of(first, _, more={"gone": gone})
        catches = CATCHES.replace("'fast'", "'gone'")
        first.script = by_goal({"root": [catches, catches, py("finish(1)")]})
        result = await agent.solve("root")
    assert result.output == 1
    assert all(EndpointUnavailable.__name__ or "SubagentError" in text for text in observations(result))
    assert [node.status for node in result.tree.nodes["0"].children] == [Status.INFRA_ERROR] * 2
    await gone.aclose()


async def test_connections_of_all_models_stay_open_while_the_agent_is() -> None:
    with two({"root": ASKS}, {"child": py("finish(1)")}) as (first, second):
        async with agent_of(first, second) as agent:
            await agent.solve("root")
            await agent.solve("root")
            assert (first.open_connections, second.open_connections) == (1, 1)
        assert len(second.ledger.entries) == 2


async def test_each_model_has_its_own_sampling_style_and_number_of_calls_at_once() -> None:
    under_way: list[int] = []
    root = py("finish(await asyncio.gather(*[launch_subagent(f'child {i}', model='fast') for i in range(5)]))")
    fast = {"sampling": {"max_tokens": 77}, "prompt_style": "minimal", "max_concurrency": 1}

    def latency(request: Any) -> float:
        under_way.append(len(second.requests) - len(second.ledger.entries))
        return 0.0

    with two({"root": root}, {"child": py("finish(1)")}) as (first, second):
        second.latency = latency
        result = await agent_of(first, second, fast=fast, sampling={"max_tokens": 99, "temperature": 0.5}).solve("root")
    assert result.output == [1] * 5
    assert first.requests[0].max_tokens == 99
    assert {request.max_tokens for request in second.requests} == {77}
    assert "temperature" not in second.requests[0].body
    assert second.requests[0].messages[0]["role"] == "user"  # the minimal style has no system message
    assert second.requests[0].messages[0]["content"].endswith("models: large, fast")
    assert max(under_way) <= 1
    assert result.tree.settings["models"]["fast"]["prompt_style"] == "minimal"


async def test_the_agents_own_model_may_be_one_of_the_named() -> None:
    with two({"root": ASKS}, {"child": py("finish(1)")}) as (first, second):
        agent = Agent(
            "big",
            second.base_url,
            "sk-key-of-the-small-one",
            models={
                "big": ModelChoice(
                    model="large",
                    base_url=first.base_url,
                    api_key="sk-key-of-the-large-one",
                    prices=BIG,
                    trainable=False,
                    description="slow",
                ),
                "fast": "small",
            },
        )
        result = await agent.solve("root")
    assert [(node.model, node.trainable) for node in result.tree.walk()] == [("big", False), ("fast", True)]
    assert "'big': slow; 10 / 20" in first.requests[0].text("system")
    assert result.tree.root.usage.cost > 0
    assert result.tree.nodes["0.0"].usage.cost == 0


async def test_a_limit_of_cost_holds_across_models() -> None:
    """Each call is reserved at its own model's prices."""
    root = py("print(await launch_subagent('child', model='fast'))")
    with two({"root": root}, {"child": py("finish(1)")}) as ends:
        result = await agent_of(*ends, limits=Limits(max_cost=0.15, max_steps=50)).solve("root")
    assert result.status is Status.COST_LIMIT
    assert 0 < result.usage.cost <= 0.15
    assert len(ends[1].ledger.entries) >= 1


def test_usage_of_a_tree_without_agents_is_empty() -> None:
    from recursive_agent import RunStarted

    tree = ExecutionTree(RunStarted(time=0.0, run="r", model="m", interface="chat"))
    assert tree.usage_by_model == {}
    assert tree.usage == Usage()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"models": 5}, "^models must be a mapping"),
    ({"models": {1: "m"}}, "^models must have names as keys"),
    ({"models": {"fast": 5}}, r"^models\['fast'\] must be the name of a model"),
    ({"models": {"fast": ModelChoice(model=5)}}, r"^models\['fast'\] must be the name"),  # type: ignore[arg-type]
    ({"models": {"fast": ModelChoice(model="m", max_concurrency=0)}}, r"^models\['fast'\].max_concurrency must be"),
    ({"models": {"fast": ModelChoice(model="m", prompt_style="x")}}, r"prompt_style must be"),  # type: ignore[arg-type]
    ({"models": {"fast": ModelChoice(model="m", sampling={"top_p": 7})}}, "^sampling: top_p"),
    ({"models": {"fast": ModelChoice(model="m", base_url="ftp://x")}}, r"^models\['fast'\]: base_url"),
    ({"models": {"fast": ModelChoice(model="m", trainable=None)}}, "trainable must be"),  # type: ignore[arg-type]
    ({"models": {"m": ModelChoice(model="x", context_limit=True)}}, r"^models\['m'\].context_limit must be"),
    ({"models": {"fast": "m"}, "limits": Limits(max_cost=1.0), "prices": BIG}, "needs the prices of every model"),
    ({"choose": {0: "m"}}, "^choose needs models"),
    ({"models": {"fast": "m"}, "choose": {0: "x"}}, r"^choose\[0\] must be one of 'm', 'fast'"),
    ({"models": {"fast": "m"}, "choose": {"0": "fast"}}, "^choose must have depths"),
    ({"models": {"fast": "m"}, "choose": 5}, "^choose must be a mapping"),
    ({"share_identical": 1}, "^share_identical must be"),
]


@pytest.mark.parametrize(("settings", "words"), WRONG)
def test_wrong_settings_are_refused_in_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Agent(**{"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": "a-placeholder", **settings})


def test_the_agents_key_goes_to_no_other_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"^models\['fast'\]: No API key for https://api.example.com"):
        Agent(
            "m",
            "https://api.example.org/v1",
            "sk-own",
            models={"fast": ModelChoice(model="x", base_url="https://api.example.com/v1")},
        )


def test_an_agent_with_models_can_be_copied_and_pickled() -> None:
    import pickle

    agent = Agent("m", "http://127.0.0.1:9/v1", "a-placeholder", models={"fast": "x"}, choose={1: "fast"})
    for copy in (pickle.loads(pickle.dumps(agent)), agent.variant(sampling={"temperature": 0.0})):
        assert copy._others == agent._others
        assert copy._rule == agent._rule
    with pytest.raises(ConfigurationError, match="needs the prices"):
        Agent("m", "http://127.0.0.1:9/v1", "a-placeholder", models={"fast": "x"}, prices=BIG).variant(
            limits=Limits(max_cost=1.0)
        )
