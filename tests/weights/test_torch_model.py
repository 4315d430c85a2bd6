"""A torch model as a sampler: exact, independent of its batch, the same answers as from the ONNX graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from rao_rl.envs import make
from rao_rl.errors import WeightPushError
from rao_rl.rollouts.attempt import rollout
from rao_rl.train.packing import ATTENTION
from rao_rl.weights.sync import Probe, TorchSync
from rao_rl.weights.torch_model import TorchEngine, TorchModel
from recursive_agent import Status
from recursive_agent.errors import ConfigurationError
from recursive_agent.model.base import Completion, Message, Model, Sampling
from recursive_agent.model.batching import Request
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel

from ..train.policies import make_checkpoint

pytestmark = pytest.mark.anyio

WARM = Sampling(temperature=1.0, max_tokens=200)
PROBE = Probe(("Craft 2x copper_gear", "[1, 2]"), max_tokens=8)


@pytest.fixture
def anyio_backend() -> str:
    """Turn-taking in both event loops is tests/model/test_embedded.py's."""
    return "asyncio"


@pytest.fixture
def policy(tokenizer: Any, tmp_path: Path) -> Any:
    return make_checkpoint(tmp_path, tokenizer)


def scored(policy: Any, ids: Sequence[int], count: int, temperature: float = 1.0) -> list[float]:
    """Log-probs of the last `count` ids by one forward pass over all."""
    with torch.no_grad():
        logits = policy(torch.tensor([list(ids)])).logits[0, -count - 1 : -1].double() / temperature
    chosen: list[float] = torch.log_softmax(logits, -1).gather(1, torch.tensor(ids[-count:])[:, None])[:, 0].tolist()
    return chosen


async def talk(model: Any, number: int, sampling: Sampling) -> list[Completion]:
    conversation = model.conversation(sampling=sampling)
    conversation.add(Message("user", f"Craft the following items: {number}x copper_gear\nget_info finish"))
    answers = []
    for turn in range(3):
        answers.append(await conversation.complete(max_tokens=6 + number, seed=number * 10 + turn))
        conversation.add(Message("user", "['oak_frame']" * (1 + number % 3)))
    return answers


async def together(model: Any, numbers: Sequence[int], sampling: Sampling = WARM) -> dict[int, list[Completion]]:
    found: dict[int, list[Completion]] = {}

    async def one(number: int) -> None:
        found[number] = await talk(model, number, sampling)

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(one, number)
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("share", [False, True])
async def test_sampled_ids_have_the_log_probs_of_a_full_forward_pass(
    policy: Any, tmp_path: Path, temperature: float, share: bool
) -> None:
    model = TorchModel(policy, tmp_path, share=share)
    assert isinstance(model, Model)
    for answers in (await together(model, range(6), Sampling(temperature=temperature, max_tokens=40))).values():
        for answer in answers:
            prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
            assert answer.logprobs == pytest.approx(
                scored(policy, prompt + sampled, len(sampled), temperature), abs=1e-4
            )


@pytest.mark.parametrize("sampling", [WARM, Sampling(temperature=0.8, top_p=0.6), Sampling(temperature=0.0)])
async def test_samples_are_those_of_the_onnx_engine_and_do_not_depend_on_the_batch(
    policy: Any, tmp_path: Path, sampling: Sampling
) -> None:
    model = TorchModel(policy, tmp_path)
    theirs = await together(EmbeddedModel(tmp_path), range(5), sampling)
    ours = await together(model, range(5), sampling)
    narrow = await together(TorchModel(policy, tmp_path, max_batch=2, cache_mb=0), range(5), sampling)
    for number, answers in ours.items():
        alone = await talk(model, number, sampling)
        for answer, other, third, fourth in zip(answers, theirs[number], narrow[number], alone, strict=True):
            assert answer.token_ids == other.token_ids == third.token_ids == fourth.token_ids
            assert answer.logprobs == pytest.approx(other.logprobs, abs=1e-4)
            assert answer.finish_reason == other.finish_reason


def test_any_decoder_of_full_attention_can_be_sampled_over_any_length() -> None:
    torch.manual_seed(0)
    shape: Any = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    policy: Any = LlamaForCausalLM(LlamaConfig(vocab_size=99, num_key_value_heads=2, **shape)).eval()
    engine = TorchEngine(copy.deepcopy(policy), end_ids=[])
    # Longer than one pass of reading, beside short ones, joining at different times.
    owners = [type("Owner", (), {})() for _ in range(4)]
    requests = [
        Request(owner, [n % 99 for n in range(size)], max_tokens=9, seed=size)
        for owner, size in zip(owners, (700, 3, 520, 40), strict=True)
    ]
    for request in requests:
        engine.submit(request)
        engine.run(0.0)
    while engine.pending:
        engine.run(1.0)
    for request in requests:
        assert request.error is None
        assert len(request.token_ids) == 9
        assert request.logprobs == pytest.approx(scored(policy, request.ids, 9), abs=1e-4)
    sliding: Any = {**shape, "vocab_size": 99, "sliding_window": 4}
    with pytest.raises(ConfigurationError, match="cannot be sampled in this process"):
        TorchEngine(MistralForCausalLM(MistralConfig(**sliding)), end_ids=[])
    with pytest.raises(ConfigurationError, match="not Linear"):
        TorchEngine(torch.nn.Linear(2, 2), end_ids=[])


async def test_sampling_leaves_the_policy_as_it_is_trained(policy: Any, tmp_path: Path) -> None:
    policy.train()
    policy.set_attn_implementation(ATTENTION)
    model = TorchModel(policy, tmp_path, share=True)
    await talk(model, 1, WARM)
    assert policy.training
    assert policy.config._attn_implementation == ATTENTION
    assert not model.engine.policy.training
    assert [id(one) for one in policy.parameters()] == [id(one) for one in model.engine.policy.parameters()]


@pytest.mark.parametrize("share", [False, True])
async def test_a_push_is_sampled_with_at_once(policy: Any, tmp_path: Path, share: bool) -> None:
    model = TorchModel(policy, tmp_path, share=share)
    sync = TorchSync(model, probe=PROBE)
    await sync.push(policy, 0)
    conversation = model.conversation(sampling=WARM)
    conversation.add(Message("user", "Craft 3x oak_gear"))
    await conversation.complete(max_tokens=20, seed=1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    push = await sync.push(policy, 1)
    assert (push.method, push.version, push.probe_tokens) == ("torch", 1, 16)
    assert push.probe_error < 1e-3
    conversation.add(Message("user", "go on"))
    answer = await conversation.complete(max_tokens=20, seed=2)
    prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
    # What was kept of the conversation was computed by the old weights; nothing of it shows.
    assert answer.logprobs == pytest.approx(scored(policy, prompt + sampled, len(sampled)), abs=1e-4)
    assert answer.version == "1"


async def test_a_lora_is_sampled_as_part_of_the_weights(policy: Any, tmp_path: Path) -> None:
    adapted: Any = get_peft_model(policy, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    model = TorchModel(adapted, tmp_path)
    assert not any("lora" in name for name, _ in model.engine.policy.named_modules())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    assert (await TorchSync(model, probe=PROBE).push(adapted, 1)).probe_error < 1e-3
    (answer,) = (await talk(model, 1, WARM))[:1]
    prompt, sampled = list(answer.prompt_token_ids or ()), list(answer.token_ids or ())
    assert answer.logprobs == pytest.approx(scored(adapted, prompt + sampled, len(sampled)), abs=1e-4)


async def test_a_copy_in_bfloat16_needs_a_wider_tolerance(policy: Any, tmp_path: Path) -> None:
    model = TorchModel(policy, tmp_path, dtype=torch.bfloat16)
    with pytest.raises(WeightPushError):
        await TorchSync(model, probe=Probe(PROBE.prompts, max_tokens=16, tolerance=1e-5)).push(policy, 1)
    assert (await TorchSync(model, probe=Probe(PROBE.prompts, tolerance=0.2)).push(policy, 2)).probe_error > 1e-5


async def test_what_cannot_be_pushed_is_refused(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="leave device and dtype out"):
        TorchModel(policy, tmp_path, share=True, dtype=torch.bfloat16)
    with pytest.raises(ConfigurationError, match="shares the weights"):
        await TorchModel(policy, tmp_path, share=True).load(copy.deepcopy(policy), version="1")
    model = TorchModel(policy, tmp_path)
    config = copy.deepcopy(policy.config)
    config.intermediate_size = 16
    with pytest.raises(ConfigurationError, match=r"differ in .*mlp"):
        await model.load(type(policy)(config), version="1")
    assert model.version != "1"


async def test_an_engine_that_fails_costs_the_calls_it_had_and_no_other(policy: Any, tmp_path: Path) -> None:
    from recursive_agent.errors import ModelError

    model = TorchModel(policy, tmp_path)
    head = model.engine.policy.lm_head
    model.engine.policy.lm_head = torch.nn.Linear(5, 5)
    with pytest.raises(ModelError, match="failed"):
        await talk(model, 1, WARM)
    model.engine.policy.lm_head = head
    assert len(await talk(model, 1, WARM)) == 3


async def test_a_tree_of_agents_crafts_with_it() -> None:
    environment = make("textcraft")
    task = next(environment.tasks("test", level="easy", limit=1))
    model = TorchModel(AutoModelForCausalLM.from_pretrained(SHIPPED), SHIPPED, sampling=Sampling(temperature=0.0))
    result = await rollout(environment, task, model, seed=1)
    assert result.status is Status.FINISHED
    assert result.tree.root.score == 1.0
