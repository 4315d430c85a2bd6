"""The model of cost, against numbers worked out by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cost import Inputs, cost, table

SMALL = Inputs(
    tasks=2,
    attempts=2,
    agents=3,
    calls=4,
    sampled=10,
    observed=5,
    opening=100,
    own_opening=20,
    sampling_rate=1,
    prompt_rate=1.75,
    training_rate=9.3,
    agent_cpu=0.5,
    call_cpu=0.25,
)


def test_five_steps_of_four_trees_of_three_agents() -> None:
    found = cost(SMALL, 5)
    assert found.agents == 60
    assert found.sampled_tokens == 60 * 40
    # Prompts of 100, 115, 130 and 145 tokens.
    assert found.prompt_tokens == 60 * 490
    assert found.new_prompt_tokens == 60 * (20 + 15)
    assert found.trained_tokens == 60 * 155
    # 2,400 s for what is sampled, 2,100 / 1.75 = 1,200 s for what is read.
    assert found.sampling_hours == pytest.approx(1.0)
    assert found.training_hours == pytest.approx(1000 / 3600)
    # 60 agents of 0.5 + 4 · 0.25 s.
    assert found.cpu_hours == pytest.approx(90 / 3600)
    assert found.cores == pytest.approx(0.025)


def test_a_faster_sampler_needs_more_cores_and_no_more_core_hours() -> None:
    slow, fast = cost(SMALL, 5), cost(replace(SMALL, sampling_rate=2, prompt_rate=3.5), 5)
    assert fast.cores == pytest.approx(2 * slow.cores)
    assert fast.cpu_hours == slow.cpu_hours


def test_the_table_has_a_row_for_each_number_of_steps() -> None:
    rows = table(SMALL, (5, 100_000))
    assert len(rows) == 4
    assert rows[2] == "| 5 | 60 | 0.0 M | 0.0 M (0.0 M) | 0.0 M | 1.00 + 0.28 | 0.025 | 0.03 |"
    assert rows[3].startswith("| 100,000 | 1,200,000 | 48.0 M | 588.0 M (42.0 M) | 186.0 M |")


def test_the_document_has_the_table_that_the_model_gives() -> None:
    document = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    assert "\n".join(table(Inputs(), (1, 25, 100, 200))) in document
