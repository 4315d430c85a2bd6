"""D: what it counts, and that it never is 0."""

from typing import Any, get_args

import pytest

from rao_rl.credit import Normalization, Normalize
from recursive_agent.errors import ConfigurationError


@pytest.mark.parametrize(("normalize", "denominator"), [("token", 7), ("node", 3), ("rollout", 2), ("constant", 17)])
def test_the_denominator_is_the_total_that_was_chosen(normalize: Any, denominator: float) -> None:
    chosen = Normalization(normalize=normalize, constant=17.0)
    assert chosen.denominator(tokens=7, nodes=3, rollouts=2) == denominator


@pytest.mark.parametrize("normalize", get_args(Normalize))
def test_a_step_of_nothing_divides_by_something(normalize: Any) -> None:
    assert Normalization(normalize=normalize).denominator(tokens=0, nodes=0, rollouts=0) > 0


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"normalize": "tokens"}, "normalize must be one of token, node, rollout, constant, not 'tokens'"),
        ({"constant": 0.0}, "constant must be above 0, not 0.0"),
        ({"constant": float("nan")}, "constant must be above 0, not nan"),
    ],
)
def test_a_normalization_that_makes_no_sense_is_refused(wrong: Any, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Normalization(**wrong)
