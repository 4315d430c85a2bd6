"""An endless run for writers that are killed: small events, blobs, and lines of megabytes that a kill can tear."""

from collections.abc import Iterator
from itertools import count

from recursive_agent.trace.schema import Event

from .events import cell_ran, model_called, node_started, run_started


def endless() -> Iterator[Event]:
    """The same events every time."""
    yield run_started(1.0)
    yield node_started("0", 1.0, context={"doc": "x" * 100_000})
    for step in count(1):
        yield model_called(step=step, token_ids=list(range(step)), text="t" * step)
        yield cell_ran(step=step, output=str(step) * 400_000 if step % 3 == 0 else "ok")
