"""The trainer: what a step learns does not depend on how it is computed, and a run that goes wrong stops in time."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from rao_rl.config import UpdateConfig
from rao_rl.credit.assign import CreditConfig
from rao_rl.credit.normalization import Normalization, Normalize
from rao_rl.data.rows import Row, Sample, TreeRows
from rao_rl.errors import DataError, TrainingDiverged
from rao_rl.train.steps import step_of
from rao_rl.train.trainer import RaoArguments, RaoTrainer, Step, collate
from rao_rl.weights.adapters import adapted, merged
from rao_rl.weights.scoring import holding
from recursive_agent.errors import ConfigurationError

from ..data.token_trees import token_tree, turn
from .small_steps import (
    DealtOut,
    Learnt,
    forked,
    gpt2,
    learn,
    llama,
    qwen3,
    row,
    sample,
    samples,
    scaled,
    slopes,
    step,
    windowed,
)

ROOT = Path(__file__).parents[2]
LENGTHS = (7, 12, 5, 30, 9, 3, 21)
LONG = (7, 290, 30)
FAMILIES = {"qwen3": qwen3, "llama": llama, "gpt2": gpt2}


def same(one: Learnt, other: Learnt) -> None:
    """Loss and gradient agree to 1e-5, and there is a gradient to speak of."""
    assert one.loss == pytest.approx(other.loss, abs=1e-5)
    assert one.gradient.keys() == other.gradient.keys()
    assert max(float(value.abs().max()) for value in one.gradient.values()) > 0.02
    for name, value in one.gradient.items():
        torch.testing.assert_close(
            value, other.gradient[name], rtol=0, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}"
        )


def by_definition(model: Any, made: Step, temperature: float = 1.0) -> Learnt:
    """Equation 5, row by row and token by token, from the model's own whole logits."""
    total = torch.zeros(())
    for each in made.samples:
        ids = torch.from_numpy(each.input_ids.astype(np.int64))[None]
        logprobs = torch.log_softmax(model(input_ids=ids, use_cache=False).logits[0] / temperature, dim=-1)
        for place in np.nonzero(each.completion_mask)[0]:
            logprob = logprobs[place - 1, int(each.input_ids[place])]
            ratio = min(math.exp(logprob.item() - float(each.logprobs[place])), 5.0)
            total = total - ratio * each.coefficient / made.denominator * logprob
    total.backward()
    gradient = {name: value.grad for name, value in model.named_parameters() if value.grad is not None}
    return Learnt(total.item(), gradient, {})


# --- invariances (ALGORITHM.md, "Loss normalisation") ---


@pytest.mark.parametrize(
    ("padding_free", "temperature"),
    [(True, 0.7), (False, 1.0), *(pytest.param(*rest, marks=pytest.mark.slow) for rest in ((True, 1.0), (False, 0.7)))],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_is_the_equation(family: str, padding_free: bool, temperature: float, tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    ours = learn(FAMILIES[family](), tmp_path, made, padding_free=padding_free, temperature=temperature)
    same(ours, by_definition(FAMILIES[family]().train(), made, temperature))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Learnt:
    """The step in one bin."""
    return learn(qwen3(), tmp_path_factory.mktemp("whole"), step(samples(*LENGTHS)))


@pytest.mark.parametrize("padding_free", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize("tokens", [1, 40, *(pytest.param(tokens, marks=pytest.mark.slow) for tokens in (20, 64))])
def test_the_size_of_the_bins_makes_no_difference(
    tokens: int, padding_free: bool, whole: Learnt, tmp_path: Path
) -> None:
    made = step(samples(*LENGTHS))
    same(learn(qwen3(), tmp_path, made, tokens_per_bin=tokens, padding_free=padding_free), whole)


@pytest.mark.parametrize("order", [0, *(pytest.param(order, marks=pytest.mark.slow) for order in (1, 2))])
def test_the_order_of_the_nodes_makes_no_difference(order: int, whole: Learnt, tmp_path: Path) -> None:
    shuffled = samples(*LENGTHS)
    random.Random(order).shuffle(shuffled)
    same(learn(qwen3(), tmp_path, step(shuffled), tokens_per_bin=40), whole)


@pytest.mark.parametrize("padding_free", [True, False], ids=["packed", "padded"])
def test_a_node_in_two_rows_is_the_node_in_one(padding_free: bool, whole: Learnt, tmp_path: Path) -> None:
    made = samples(*LENGTHS)
    cut = [part for each in made for part in (forked(each) if len(each) > 10 else [each])]
    assert len(cut) == len(made) + 3
    assert step(cut).denominator == step(made).denominator
    same(learn(qwen3(), tmp_path, step(cut), tokens_per_bin=50, padding_free=padding_free), whole)


@pytest.mark.parametrize("padding_free", [True, False], ids=["packed", "padded"])
def test_what_rows_repeat_is_forwarded_once_and_learnt_for_each(padding_free: bool, tmp_path: Path) -> None:
    first, second, third = samples(12, 9, 15)
    again = replace(first, row=replace(first.row, logprobs=first.logprobs - 0.3), weight=2.0, advantage=-0.7)
    made = step([again, *forked(third), second, first, third])
    ours = learn(qwen3(), tmp_path, made, padding_free=padding_free, tokens_per_bin=30)
    same(ours, by_definition(qwen3().train(), made))
    assert ours.log["rao/trained_tokens"] == made.denominator
    if padding_free:
        assert ours.log["rao/forwarded_over_logical_tokens"] == (12 + 9 + 15) / sum(map(len, made.samples))


@pytest.mark.parametrize("chunk", [1, 7, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_chunks_of_the_head_make_no_difference(chunk: int, whole: Learnt, tmp_path: Path) -> None:
    same(learn(qwen3(), tmp_path, step(samples(*LENGTHS)), logprob_chunk=chunk), whole)


def test_gradient_checkpointing_makes_no_difference(whole: Learnt, tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    same(learn(qwen3(), tmp_path, made, gradient_checkpointing=True, tokens_per_bin=40, logprob_chunk=5), whole)


def test_long_rows_take_the_fused_kernel_to_the_same_end(tmp_path: Path) -> None:
    made = step(samples(*LONG))
    packed = learn(qwen3(), tmp_path, made)
    same(packed, learn(qwen3(), tmp_path, made, padding_free=False))
    same(packed, by_definition(qwen3().train(), made))


def test_ppo_too_is_the_same_packed_and_padded(tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    packed = learn(qwen3(), tmp_path, made, loss_type="ppo", tokens_per_bin=30)
    same(packed, learn(qwen3(), tmp_path, made, loss_type="ppo", padding_free=False))
    cispo = learn(qwen3(), tmp_path, made)
    assert packed.loss != pytest.approx(cispo.loss, abs=1e-2)


def test_twice_the_coefficients_over_twice_the_denominator_is_the_same(whole: Learnt, tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    doubled = [replace(each, weight=2 * each.weight) for each in made.samples]
    same(learn(qwen3(), tmp_path, Step(samples=doubled, denominator=2 * made.denominator)), whole)


# --- D ---


@pytest.mark.parametrize("subsampled", [None, 1])
@pytest.mark.parametrize(
    ("normalize", "expected"), [("token", 9.0), ("node", 3.0), ("rollout", 2.0), ("constant", 17.0)]
)
def test_the_denominator_counts_the_whole_step(normalize: Normalize, expected: float, subsampled: int | None) -> None:
    trees = [
        token_tree([turn([1, 2], [3, 4, 5])], [turn([6], [7, 8])], run="a", scores=(1.0, 1.0)),
        token_tree([turn([1, 2], [9, 9]), turn([1, 2, 9, 9, 4], [5, 6])], run="b", scores=(0.0,)),
    ]
    credit = CreditConfig(max_nodes_per_depth=subsampled)
    normalization = Normalization(normalize=normalize, constant=17.0)
    rows = list(map(TreeRows.of, trees))
    made = step_of(rows, credit, normalization=normalization, rng=random.Random(0))
    assert made.denominator == expected
    assert len(made.samples) == (3 if subsampled is None else 2)


# --- several GPUs ---


def test_one_process_on_a_machine_of_several_gpus_trains_on_one(
    whole: Learnt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """transformers counts devices, and would share the model out among them."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert RaoArguments(output_dir=str(tmp_path), report_to="none").n_gpu == 4
    monkeypatch.setattr(torch.nn, "DataParallel", DealtOut)
    same(learn(qwen3(), tmp_path, step(samples(*LENGTHS)), use_cpu=False, tokens_per_bin=40), whole)
    assert "accelerate launch --num_processes 4 -m rao_cli train" in caplog.text


# --- adapters ---


def test_lora_trains_the_adapter_and_nothing_else(tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    policy = adapted(qwen3(), UpdateConfig(lora_rank=4))
    before = {name: value.clone() for name, value in policy.named_parameters()}
    packed = learn(policy, tmp_path, *[made] * 3, learning_rate=0.5)
    assert packed.gradient
    assert all("lora_" in name for name in packed.gradient)
    changed = {name for name, value in policy.named_parameters() if not torch.equal(value, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    plain = merged(policy)
    ids = torch.arange(1, 20)[None]
    old, new = qwen3()(input_ids=ids).logits, plain(input_ids=ids).logits
    assert not torch.allclose(old, new, atol=1e-3)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_lora_packed_is_lora_padded(checkpointing: bool, tmp_path: Path) -> None:
    def policy() -> Any:
        torch.manual_seed(3)
        made = adapted(qwen3(), UpdateConfig(lora_rank=4, bf16=False))
        for name, value in made.named_parameters():
            if "lora_B" in name:
                value.data.normal_(std=0.3)
        return made

    made = step(samples(*LENGTHS))
    packed = learn(policy(), tmp_path, made, tokens_per_bin=40, gradient_checkpointing=checkpointing)
    same(packed, learn(policy(), tmp_path, made, padding_free=False))


@pytest.mark.parametrize("bf16", [True, False])
def test_the_frozen_base_is_kept_in_bfloat16_and_the_adapter_trained_in_float32(bf16: bool, tmp_path: Path) -> None:
    made = step(samples(*LENGTHS))
    policy = adapted(qwen3(), UpdateConfig(lora_rank=4, bf16=bf16))
    dtypes = {value.dtype for name, value in policy.named_parameters() if "lora_" not in name}
    assert dtypes == {torch.bfloat16 if bf16 else torch.float32}
    learn(policy, tmp_path, *[made] * 3, learning_rate=0.5, bf16=bf16)
    assert {value.dtype for name, value in policy.named_parameters() if "lora_" in name} == {torch.float32}
    ids = torch.arange(1, 20)[None]
    with torch.no_grad(), holding(policy, None, torch.float32):
        trained = getattr(policy, "_original_forward", policy)(input_ids=ids).logits
    with torch.no_grad():
        plain = merged(policy)
        logits = plain.float()(input_ids=ids).logits.float()
    assert plain.dtype == torch.float32
    # What the adapter adds is less than a weight in bfloat16 can show; it is all there.
    torch.testing.assert_close(logits, trained, rtol=0, atol=0.02 if bf16 else 1e-4)
    plain.save_pretrained(tmp_path / "merged")
    assert type(plain).from_pretrained(tmp_path / "merged").dtype == torch.float32


# --- figures ---


def test_the_figures_of_a_step(tmp_path: Path) -> None:
    model = qwen3()
    ids = np.array([5, 6, 7, 8], np.int32)
    with torch.no_grad():
        logprobs = torch.log_softmax(model(input_ids=torch.tensor(ids[None].astype(np.int64))).logits[0], dim=-1)
    exact = [float(logprobs[0, 6]), float(logprobs[1, 7]), float(logprobs[2, 8])]
    ratios = [1.0, 2.0, 8.0]
    behaviour = np.array(
        [0.0, *(each - math.log(ratio) for each, ratio in zip(exact, ratios, strict=True))], np.float32
    )
    made = sample(Row(ids, np.array([False, True, True, True]), behaviour, "0"))
    short = sample(Row(ids[:2], np.array([False, True]), behaviour[:2], "0"), advantage=-1.0)
    log = learn(model, tmp_path, Step(samples=[made, short], denominator=1.0, metrics={"reward": 0.25})).log
    assert log["rao/trained_tokens"] == 4
    assert log["rao/trained_rows"] == 2
    assert log["rao/forwarded_over_logical_tokens"] == pytest.approx(4 / 6)  # the short row begins the other
    assert log["sampling/importance_sampling_ratio/mean"] == pytest.approx((1 + 2 + 8 + 1) / 4, rel=1e-4)
    assert log["sampling/importance_sampling_ratio/max"] == pytest.approx(8, rel=1e-4)
    assert log["sampling/sampling_logp_difference/mean"] == pytest.approx((math.log(2) + math.log(8)) / 4, rel=1e-4)
    assert log["clip_ratio/region_mean"] == 0.25
    k3 = [ratio - 1 - math.log(ratio) for ratio in ratios]
    assert log["rao/mismatch_kl"] == pytest.approx(sum(k3) / 4, rel=1e-4)
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    assert log["entropy"] == pytest.approx(float(entropy[:3].sum() + entropy[0]) / 4, rel=1e-4)
    assert log["reward"] == 0.25
    assert log["grad_norm"] > 0
    padded = learn(qwen3(), tmp_path, Step(samples=[made, short], denominator=1.0), padding_free=False).log
    assert padded["rao/forwarded_over_logical_tokens"] == pytest.approx(4 / 6)
    other = replace(short, row=replace(short.row, input_ids=ids[[1, 0]]))
    padded = learn(qwen3(), tmp_path, Step(samples=[made, other], denominator=1.0), padding_free=False).log
    assert padded["rao/forwarded_over_logical_tokens"] == pytest.approx(8 / 6)


def test_figures_are_means_over_the_steps_since_the_last_line(tmp_path: Path) -> None:
    steps = [replace(step(samples(5)), metrics={"reward": reward}) for reward in (0.0, 1.0, 0.5, 0.25)]
    assert learn(qwen3(), tmp_path, *steps, logging_steps=2).log["reward"] == 0.375


# --- runs that go wrong ---


class Poisoned(torch.nn.Module):
    """An output embedding whose gradient is no number, while its logits are."""

    def __init__(self, head: torch.nn.Module) -> None:
        super().__init__()
        self.head = head
        self.weight = head.weight

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(states)
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * math.nan)
        return logits


def nan_weight(model: Any, made: Step) -> Step:
    model.model.layers[1].mlp.down_proj.weight.data[0, 0] = math.nan
    return made


def exploding(model: Any, made: Step) -> Step:
    """Under ppo nothing holds back the ratio of a token that is to become less likely."""
    impossible = [replace(each.row, logprobs=np.where(each.completion_mask, -40, 0)) for each in made.samples]
    spoilt = [replace(each, row=row, advantage=-1.0) for each, row in zip(made.samples, impossible, strict=True)]
    return replace(made, samples=spoilt)


def nan_gradient(model: Any, made: Step) -> Step:
    model.lm_head = Poisoned(model.lm_head)
    return made


@pytest.mark.parametrize("norm", [0.0, 1.0], ids=["unclipped", "clipped"])
@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (nan_weight, r"the loss is nan at step 1; its 7 rows are in "),
        (
            exploding,
            r"the loss is -?[\d.e+]+, [\d.e+]+ for each unit of the coefficients, at step 1; its 7 rows are in ",
        ),
        (nan_gradient, r"the norm of the gradient is nan at step 1; its 7 rows are in "),
    ],
)
def test_a_run_that_diverges_stops_before_the_weights_move(
    spoil: Callable[[Any, Step], Step], complaint: str, norm: float, tmp_path: Path
) -> None:
    model, made = qwen3(), step(samples(*LENGTHS))
    made = spoil(model, made)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss_type = "ppo" if spoil is exploding else "cispo"
    with pytest.raises(TrainingDiverged, match=complaint):
        learn(model, tmp_path / "out", made, made, max_grad_norm=norm, tokens_per_bin=40, loss_type=loss_type)
    for name, value in model.state_dict().items():
        assert torch.equal(value.nan_to_num(7.0), before[name].nan_to_num(7.0)), name
    table = pq.read_table(tmp_path / "out" / "diverged-step-000001.parquet").to_pylist()
    assert [line["input_ids"] for line in table] == [each.input_ids.tolist() for each in made.samples]
    assert [line["coefficient"] for line in table] == pytest.approx([each.coefficient for each in made.samples])


@pytest.mark.parametrize("denominator", [1e-9, pytest.param(1.0, marks=pytest.mark.slow), 1e9])
@pytest.mark.parametrize("loss_type", ["cispo", "ppo"])
def test_what_the_loss_is_divided_by_is_no_divergence(loss_type: str, denominator: float, tmp_path: Path) -> None:
    healthy = replace(step(samples(*LENGTHS)), denominator=denominator)
    learned = learn(qwen3(), tmp_path / "good", healthy, loss_type=loss_type)
    assert abs(learned.loss) > 1e4 or denominator > 1e-9
    spoilt = replace(exploding(None, healthy), denominator=denominator)
    with pytest.raises(TrainingDiverged, match="for each unit of the coefficients, at step 1"):
        learn(qwen3(), tmp_path / "bad", spoilt, loss_type="ppo")


def test_the_step_that_diverged_is_named(tmp_path: Path) -> None:
    good = step(samples(*LENGTHS))
    with pytest.raises(TrainingDiverged, match="at step 3"):
        learn(qwen3(), tmp_path, good, good, exploding(None, good), loss_type="ppo")
    assert [path.name for path in tmp_path.glob("*.parquet")] == ["diverged-step-000003.parquet"]


def test_a_row_that_begins_with_a_sampled_token_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to predict it from"):
        collate([sample(row(5, seed=0, given=0)), _all_sampled()], pad_id=0, packed=True)


def _all_sampled() -> Sample:
    return sample(Row(np.ones(3, np.int32), np.ones(3, bool), np.zeros(3, np.float32), "0"))


# --- the model as it was ---


def test_the_model_still_gives_logits_to_others(tmp_path: Path) -> None:
    ids = torch.arange(1, 40).reshape(3, 13)
    model = qwen3()
    before = model(input_ids=ids).logits
    RaoTrainer(model, RaoArguments(output_dir=str(tmp_path), max_steps=1, use_cpu=True, report_to="none"), _nothing)
    torch.testing.assert_close(model(input_ids=ids, use_cache=False).logits, before, rtol=0, atol=1e-5)


def _nothing(first: int) -> Any:
    return iter(())


@pytest.mark.parametrize("padding_free", [True, False], ids=["packed", "padded"])
@pytest.mark.parametrize(("family", "needs_padding"), [(windowed, True), (slopes, True), (scaled, False)])
def test_a_model_whose_log_probs_would_be_wrong_is_refused(
    family: Callable[[], Any], needs_padding: bool, padding_free: bool, tmp_path: Path
) -> None:
    made = step(samples(*LENGTHS))
    if needs_padding and not padding_free:
        same(learn(family(), tmp_path, made, padding_free=False), by_definition(family().train(), made))
    else:
        with pytest.raises(ConfigurationError, match="cannot be trained"):
            learn(family(), tmp_path, made, padding_free=padding_free)


def test_a_window_longer_than_any_row_is_refused_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="some of its layers do not attend to everything before them"):
        learn(windowed(window=4096), tmp_path, step(samples(5)))


def test_a_run_ends_where_its_steps_end(tmp_path: Path) -> None:
    steps: Sequence[Step] = [step(samples(5, 4))] * 2
    learnt = learn(qwen3(), tmp_path, *steps, max_steps=100)
    assert learnt.log["epoch"] == pytest.approx(0.02)
