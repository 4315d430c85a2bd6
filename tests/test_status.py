"""Whose doing it was that an agent did not finish: said once, by the status itself."""

from recursive_agent import Status


def test_every_status_of_an_agent_that_failed_is_of_exactly_one_kind() -> None:
    kinds = {status: (status.own_failure, status.shared_limit, status.external) for status in Status}
    assert {status for status, kind in kinds.items() if sum(kind) == 0} == {Status.RUNNING, Status.FINISHED}
    assert all(sum(kind) <= 1 for kind in kinds.values())


def test_whose_doing_each_failure_is() -> None:
    """Own failures are trained as 0, shared limits fail the root alone, external ones nobody."""
    assert {status.value for status in Status if status.own_failure} == {
        *("step_limit", "token_limit", "context_overflow", "malformed")
    }
    assert {status.value for status in Status if status.shared_limit} == {"tree_budget", "tree_timeout", "cost_limit"}
    assert {status.value for status in Status if status.external} == {"cancelled", "infra_error"}
