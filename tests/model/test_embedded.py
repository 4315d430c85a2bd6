"""The embedded runtime on the shipped checkpoint: exact, independent of its batch, and gone when nobody asks."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from recursive_agent import ConfigurationError, ContextOverflow
from recursive_agent.model.base import Completion, Conversation, Message, Model, Sampling
from recursive_agent.model.embedded import SHIPPED, EmbeddedModel
from recursive_agent.model.onnx_engine import OnnxEngine, Request
from tests.waiting import until

pytestmark = pytest.mark.anyio

GOAL = "Craft the following items: {}x copper_gear\nget_info view_inventory craft launch_subagent finish"
WARM = Sampling(temperature=1.0, max_tokens=60)


@pytest.fixture(scope="module")
def model() -> EmbeddedModel:
    return EmbeddedModel(sampling=WARM)


def opened(model: EmbeddedModel, goal: str = GOAL.format(2), sampling: Sampling | None = None) -> Conversation:
    conversation = model.conversation(sampling=sampling)
    conversation.add(Message("user", goal))
    return conversation


async def talk(model: EmbeddedModel, number: int, turns: int = 3) -> list[Completion]:
    conversation = opened(model, GOAL.format(number + 1))
    answers = []
    for turn in range(turns):
        answers.append(await conversation.complete(max_tokens=8 + 5 * (number % 9), seed=100 * number + turn))
        conversation.add(Message("user", "({'ingredients': {'oak_rod': 1}, 'yields': 1}, [])" * (1 + number % 4)))
    return answers


async def together(model: EmbeddedModel, numbers: Sequence[int]) -> dict[int, list[Completion]]:
    found: dict[int, list[Completion]] = {}

    async def one(number: int) -> None:
        found[number] = await talk(model, number)

    async with anyio.create_task_group() as group:
        for number in numbers:
            group.start_soon(one, number)
    return found


async def test_it_is_a_model_of_exact_tokens(model: EmbeddedModel) -> None:
    assert isinstance(model, Model)
    assert model.interface == "tokens"
    assert model.name == model.settings.name
    assert await model.context_length() == model.settings.context_length
    conversation = opened(model)
    assert isinstance(conversation, Conversation)
    assert conversation.exact
    prompt = await conversation.prompt_tokens()
    answer = await conversation.complete(max_tokens=50, seed=1)
    assert answer.usage.prompt_tokens == prompt == len(answer.prompt_token_ids or ())
    assert answer.usage.completion_tokens == len(answer.token_ids or ()) == len(answer.logprobs or ())
    assert all(value <= 0 for value in answer.logprobs or ())
    assert conversation.messages[-1] == Message("assistant", answer.text)
    assert answer.version == model.version


async def test_each_prompt_continues_the_last_one(model: EmbeddedModel) -> None:
    first, second, third = await talk(model, 4)
    for before, after in ((first, second), (second, third)):
        whole = [*(before.prompt_token_ids or ()), *(before.token_ids or ())]
        assert list(after.prompt_token_ids or ())[: len(whole)] == whole


async def test_samples_do_not_depend_on_the_batch(model: EmbeddedModel) -> None:
    batched = await together(model, range(24))
    for number in (0, 5, 23):
        for one, other in zip(batched[number], await talk(model, number), strict=True):
            assert one.token_ids == other.token_ids
            assert one.logprobs == pytest.approx(other.logprobs, abs=1e-4)


async def test_a_batch_smaller_than_the_crowd_serves_everybody() -> None:
    narrow = EmbeddedModel(sampling=WARM, max_batch=3)
    assert len(await together(narrow, range(10))) == 10


async def test_a_seed_repeats_and_none_does_not(model: EmbeddedModel) -> None:
    hot = Sampling(temperature=3.0, max_tokens=20)
    seeds = [7, 7, 8, None, None]
    texts = [(await opened(model, sampling=hot).complete(max_tokens=20, seed=seed)).token_ids for seed in seeds]
    assert texts[0] == texts[1]
    assert len({texts[1], texts[2], texts[3], texts[4]}) == 4


async def test_a_model_seed_repeats_the_calls_that_name_none() -> None:
    hot = Sampling(temperature=3.0, max_tokens=20)
    one, other = [await opened(EmbeddedModel(seed=5), sampling=hot).complete(max_tokens=20) for _ in range(2)]
    assert one.token_ids == other.token_ids


async def test_temperature_zero_takes_the_likeliest(model: EmbeddedModel) -> None:
    greedy = Sampling(temperature=0.0, max_tokens=40)
    answers = [await opened(model, sampling=greedy).complete(max_tokens=40, seed=seed) for seed in range(3)]
    assert len({answer.token_ids for answer in answers}) == 1
    narrow = await opened(model, sampling=Sampling(top_p=1e-6, max_tokens=40)).complete(max_tokens=40, seed=0)
    assert narrow.token_ids == answers[0].token_ids
    assert narrow.logprobs == pytest.approx([0.0] * len(narrow.token_ids or ()))


async def test_the_answer_is_cut_at_max_tokens(model: EmbeddedModel) -> None:
    answer = await opened(model).complete(max_tokens=3, seed=0)
    assert answer.finish_reason == "length"
    assert answer.usage.completion_tokens == 3
    short = await opened(model, sampling=Sampling(max_tokens=2)).complete(max_tokens=3, seed=0)
    assert short.usage.completion_tokens == 2


async def test_a_stop_text_ends_the_answer_and_is_left_out(model: EmbeddedModel) -> None:
    whole = await opened(model, sampling=Sampling(temperature=0.0)).complete(max_tokens=60)
    stop = whole.text[len(whole.text) // 2 :][:6]
    cut = await opened(model, sampling=Sampling(temperature=0.0, stop=(stop,))).complete(max_tokens=60)
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.usage.completion_tokens < whole.usage.completion_tokens


async def test_text_streams_in_pieces_that_make_up_the_answer(model: EmbeddedModel) -> None:
    pieces: list[str] = []
    answer = await opened(model).complete(max_tokens=60, seed=3, on_text=pieces.append)
    assert "".join(pieces) == answer.text


async def test_a_prompt_that_fills_the_window_overflows_before_the_call(model: EmbeddedModel) -> None:
    window = await model.context_length()
    conversation = opened(model, "a" * window)
    with pytest.raises(ContextOverflow, match=f"{window}"):
        await conversation.complete(max_tokens=5)


async def test_max_tokens_is_lowered_to_what_the_window_leaves(model: EmbeddedModel) -> None:
    window = await model.context_length()
    conversation = opened(model, "\x01" * (window - 7))
    left = window - await conversation.prompt_tokens()
    assert 0 < left < 7
    answer = await conversation.complete(max_tokens=50, seed=0)
    assert answer.usage.completion_tokens <= left


async def test_cancelling_a_call_drops_it_and_leaves_the_others() -> None:
    model = EmbeddedModel(SHIPPED, sampling=WARM)
    model.engine._end_ids = frozenset()  # nothing ends an answer but its length
    before = threading.active_count()
    long = Sampling(temperature=50.0, max_tokens=1500)
    started = anyio.Event()
    ended: list[Completion] = []

    async def cancelled() -> None:
        asked = opened(model, sampling=long).complete(max_tokens=1500, on_text=lambda text: started.set())
        ended.append(await asked)

    async with anyio.create_task_group() as others:
        async with anyio.create_task_group() as doomed:
            for _ in range(3):
                doomed.start_soon(cancelled)
            await started.wait()
            others.start_soon(talk, model, 2)
            doomed.cancel_scope.cancel()
        assert not ended, "nothing was sampled to its end"
    assert not model.pending
    await until(lambda: threading.active_count() <= before + 1)  # the event loop keeps its worker thread for a while


async def test_a_conversation_forgotten_is_read_again(model: EmbeddedModel) -> None:
    small = EmbeddedModel(sampling=WARM, cache_mb=0)
    for one, other in zip(await talk(small, 6), await talk(model, 6), strict=True):
        assert one.token_ids == other.token_ids


async def test_a_long_conversation_is_not_cut_when_a_short_one_joins() -> None:
    class Owner:
        pass

    def sampled(others: int) -> list[float]:
        """Log-probs of an answer to a long prompt; short ones join while it is being sampled."""
        engine = OnnxEngine(SHIPPED / "model.onnx", end_ids=[])
        owners = [Owner() for _ in range(1 + others)]
        first, *rest = [
            Request(owner, [7, 8, 9], max_tokens=20, seed=place, temperature=3.0) for place, owner in enumerate(owners)
        ]
        first.prompt = [10 + place % 300 for place in range(600)]
        for request in [first, *rest]:
            engine.submit(request)
            engine.run(0.0)
        while engine.pending:
            engine.run(1.0)
        return first.logprobs

    assert sampled(others=2) == pytest.approx(sampled(others=0), abs=1e-4)


def test_what_nobody_will_continue_is_forgotten() -> None:
    class Owner:
        pass

    engine = OnnxEngine(SHIPPED / "model.onnx", end_ids=[])

    def ask(owner: Owner) -> None:
        request = Request(owner, [7, 8, 9], max_tokens=4, seed=0)
        engine.submit(request)
        while not request.done:
            engine.run(1.0)

    kept, lost = Owner(), Owner()
    ask(kept)
    one = engine.kept_bytes
    ask(lost)
    assert engine.kept_bytes == 2 * one > 0
    del lost
    gc.collect()
    ask(kept)
    assert engine.kept_bytes == one


def test_two_event_loops_share_a_model(model: EmbeddedModel) -> None:
    found: dict[int, list[Completion]] = {}

    def run(number: int) -> None:
        found[number] = anyio.run(talk, model, number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: len(answers) for number, answers in found.items()} == {0: 3, 1: 3, 2: 3}


def test_native_tools_and_unknown_settings_are_refused(model: EmbeddedModel, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no native tool calls"):
        model.conversation(tools=[{"type": "function"}])
    with pytest.raises(ConfigurationError, match="top_k"):
        model.conversation(sampling=Sampling(extra={"top_k": 5}))
    with pytest.raises(ConfigurationError, match=r"agent\.json"):
        EmbeddedModel(tmp_path)


def test_the_shipped_checkpoint_is_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*")) < 10_000_000


def test_it_is_ready_at_once_and_costs_nothing_until_used() -> None:
    program = (
        "import sys, time; import recursive_agent; assert 'onnxruntime' not in sys.modules;"
        "at = time.process_time(); from recursive_agent.model.embedded import EmbeddedModel; EmbeddedModel();"
        "assert 'torch' not in sys.modules; print(time.process_time() - at)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 2.0
