"""Pushed weights are the weights that are sampled with: at once, for every call, or with an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
import torch

from rao_rl.errors import WeightPushError
from rao_rl.weights.files import plain_state, rewrite_weights
from rao_rl.weights.sync import EmbeddedSync, Probe
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Completion, Message, Sampling
from recursive_agent.model.embedded import EmbeddedModel
from recursive_agent.model.graph import WEIGHTS

from ..train.policies import make_checkpoint

pytestmark = pytest.mark.anyio

WARM = Sampling(temperature=1.0, max_tokens=200)


def probe() -> Probe:
    return Probe(("Craft 2x copper_gear", "[1, 2]"), max_tokens=8)


def moved(policy: Any, by: float = 0.1) -> Any:
    """The policy after a rather large step."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * by)
    return policy


def scored(policy: Any, answer: Completion) -> list[float]:
    """Log-probs of the sampled tokens by one forward pass over the whole conversation."""
    prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
    with torch.no_grad():
        logits = policy(torch.tensor([prompt + sampled])).logits[0, len(prompt) - 1 : -1].double()
    chosen: list[float] = torch.log_softmax(logits, -1).gather(1, torch.tensor(sampled)[:, None])[:, 0].tolist()
    return chosen


async def ask(model: Any, text: str = "Craft 3x oak_gear", max_tokens: int = 20) -> Completion:
    conversation = model.conversation(sampling=WARM)
    conversation.add(Message("user", text))
    answer: Completion = await conversation.complete(max_tokens=max_tokens, seed=3)
    return answer


@pytest.fixture
def pair(tokenizer: Any, tmp_path: Path) -> tuple[Any, EmbeddedModel]:
    policy = make_checkpoint(tmp_path / "start", tokenizer)
    return policy, EmbeddedModel(tmp_path / "start")


async def test_after_a_push_the_sampler_gives_the_trainers_log_probs(
    pair: tuple[Any, EmbeddedModel], tmp_path: Path
) -> None:
    policy, model = pair
    sync = EmbeddedSync(model, tmp_path / "pushed", probe=probe())
    before = await ask(model)
    push = await sync.push(moved(policy), 1)
    after = await ask(model)
    assert (push.method, push.version, push.probe_tokens) == ("embedded", 1, 16)
    assert push.probe_error < 1e-3
    assert (model.version, after.version) == ("1", "1")
    assert before.version != "1"
    assert after.logprobs == pytest.approx(scored(policy, after), abs=1e-3)
    assert before.logprobs != pytest.approx(scored(policy, before), abs=1e-1)
    # The start is as it was: a push never writes into a checkpoint that it was not given.
    assert (await ask(EmbeddedModel(tmp_path / "start"))).logprobs == before.logprobs


async def test_a_pushed_file_is_what_transformers_would_have_written(
    pair: tuple[Any, EmbeddedModel], tmp_path: Path
) -> None:
    policy, model = pair
    await EmbeddedSync(model, tmp_path / "pushed", probe=probe()).push(moved(policy), 1)
    policy.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "pushed" / WEIGHTS).read_bytes() == (tmp_path / "saved" / WEIGHTS).read_bytes()
    assert not list((tmp_path / "pushed").glob("*.partial"))


class OldHead(EmbeddedModel):
    """A sampler that keeps the output embedding it began with, and says nothing."""

    kept: torch.Tensor

    async def load(self, directory: str | Path, *, version: str) -> None:
        from safetensors.torch import load_file

        path = Path(directory) / WEIGHTS
        rewrite_weights(path, {**load_file(path), "lm_head.weight": self.kept})
        await super().load(directory, version=version)


async def test_a_sampler_that_keeps_an_old_output_embedding_is_found_out(
    pair: tuple[Any, EmbeddedModel], tmp_path: Path
) -> None:
    policy, _ = pair
    model = OldHead(tmp_path / "start")
    model.kept = policy.lm_head.weight.detach().clone()
    sync = EmbeddedSync(model, tmp_path / "pushed", probe=probe())
    assert (await sync.push(policy, 1)).probe_error < 1e-3
    with torch.no_grad():
        policy.lm_head.weight.add_(torch.randn(policy.lm_head.weight.shape) * 0.02)
    with pytest.raises(WeightPushError, match=r"version 2 .* differ by up to \d"):
        await sync.push(policy, 2)


async def test_a_call_in_flight_goes_on_over_a_push_and_reports_the_version_it_began_with(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recursive_agent.model.local._SLICE", 0.0)  # a look at every single token
    old, new = (make_checkpoint(tmp_path / name, tokenizer, seed=seed) for name, seed in (("old", 1), ("new", 2)))
    model = EmbeddedModel(tmp_path / "old")
    model.engine._end_ids = frozenset()  # nothing ends an answer but its length
    talking: set[str] = set()
    answers: list[Completion] = []

    async def talk(text: str) -> None:
        def shown(_: str) -> None:
            talking.add(text)
            if len(talking) == 2 and model.version != "2":
                model.engine.reload(tmp_path / "new" / "model.onnx", version="2")

        conversation = model.conversation(sampling=WARM)
        conversation.add(Message("user", text))
        answers.append(await conversation.complete(max_tokens=190, seed=len(text), on_text=shown))

    async with anyio.create_task_group() as group:
        group.start_soon(talk, "Craft 1x oak_rod")
        group.start_soon(talk, "one\ntwo\nthree")
    first = (await ask(EmbeddedModel(tmp_path / "old"))).version
    for answer in answers:
        assert answer.version == first != "2"
        given = torch.tensor(answer.logprobs)
        as_old = (given - torch.tensor(scored(old, answer))).abs() < 1e-3
        as_new = (given - torch.tensor(scored(new, answer))).abs() < 1e-3
        switch = int(as_old.long().cumprod(0).sum())
        assert 0 < switch < len(given) == 190
        assert bool(as_new[switch:].all())
    assert (await ask(model)).version == "2"


async def test_prefixes_of_the_old_weights_are_not_continued(pair: tuple[Any, EmbeddedModel], tmp_path: Path) -> None:
    policy, model = pair
    conversation = model.conversation(sampling=WARM)
    conversation.add(Message("user", "Craft the following items: 2x copper_gear"))
    await conversation.complete(max_tokens=20, seed=1)
    await EmbeddedSync(model, tmp_path / "pushed", probe=probe()).push(moved(policy), 5)
    conversation.add(Message("user", "go on"))
    answer = await conversation.complete(max_tokens=20, seed=2)
    assert answer.version == "5"
    assert answer.logprobs == pytest.approx(scored(policy, answer), abs=1e-3)


async def test_a_lora_is_added_in_and_the_policy_left_as_it_was(
    pair: tuple[Any, EmbeddedModel], tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    policy, model = pair
    adapted: Any = get_peft_model(policy, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    before = {name: tensor.clone() for name, tensor in adapted.state_dict().items()}
    push = await EmbeddedSync(model, tmp_path / "pushed", probe=probe()).push(adapted, 1)
    assert push.probe_error < 1e-3
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapted.state_dict().items())


async def test_a_policy_of_another_shape_is_refused_before_anything_changes(
    pair: tuple[Any, EmbeddedModel], tmp_path: Path
) -> None:
    policy, model = pair
    sync = EmbeddedSync(model, tmp_path / "pushed", probe=probe())
    await sync.push(policy, 1)
    held = (tmp_path / "pushed" / WEIGHTS).read_bytes()
    state = plain_state(policy)
    wide = {**state, "model.norm.weight": torch.ones(99)}
    with pytest.raises(ConfigurationError, match=r"model\.norm\.weight as F32 \[32\], the policy \[99\]"):
        rewrite_weights(tmp_path / "pushed" / WEIGHTS, wide)
    with pytest.raises(ConfigurationError, match=r"has no extra\.weight"):
        rewrite_weights(tmp_path / "pushed" / WEIGHTS, {**state, "extra.weight": torch.ones(2)})
    assert (tmp_path / "pushed" / WEIGHTS).read_bytes() == held


async def test_weights_that_are_no_numbers_are_refused(pair: tuple[Any, EmbeddedModel], tmp_path: Path) -> None:
    policy, model = pair
    with torch.no_grad():
        policy.model.norm.weight.fill_(float("nan"))
    with pytest.raises(WeightPushError):
        await EmbeddedSync(model, tmp_path / "pushed", probe=probe()).push(policy, 1)
