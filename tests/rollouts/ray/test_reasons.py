"""Why an actor was lost, in the line that users read: what Ray says, without its fields and advice."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")
from ray.core.generated.common_pb2 import ActorDiedErrorContext
from ray.exceptions import ActorDiedError, ActorUnavailableError

from rao_rl.rollouts.ray.pool import _line


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (
            "Task was killed due to the node running low on memory.\nMemory on the node was 22GB / 23GB (0.95).\nRefer to …",
            "Task was killed due to the node running low on memory",
        ),
        ("The actor died because its node has died. Node Id: 765", "The actor died because its node has died"),
        ("", "ActorDiedError"),
    ],
)
def test_the_reason_is_one_sentence_of_rays(message: str, line: str) -> None:
    context = ActorDiedErrorContext(
        class_name="AttemptActor",
        actor_id=b"a" * 16,
        pid=7,
        name="rao maze 1",
        node_ip_address="10.0.0.1",
        error_message=message,
    )
    assert _line(ActorDiedError(context)) == line


def test_an_actor_that_cannot_be_reached_says_so() -> None:
    assert _line(ActorUnavailableError("the network is down", None)).startswith("The actor None is unavailable: the")
