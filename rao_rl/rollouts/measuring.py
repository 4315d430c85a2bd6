"""What a session measures of an attempt beside its score."""

from __future__ import annotations

import logging
import math

from recursive_agent.errors import described
from recursive_agent.trace.tree import Node

from ..envs.base import Measuring, Session

_log = logging.getLogger(__name__)


def measured(session: Session, root: Node) -> dict[str, float]:
    """The metrics of a session for the root of its tree; {} if it has none, or if its code fails, which is logged."""
    if not isinstance(session, Measuring):
        return {}
    try:
        found = {str(name): float(value) for name, value in session.metrics(root).items()}
    except Exception as error:  # the environment's code: what it cannot say of one attempt is no reason to stop
        _log.warning("the metrics of %s are missing: %s", type(session).__name__, described(error))
        return {}
    if wrong := [name for name, value in found.items() if not math.isfinite(value)]:
        _log.warning("the metrics %s of %s are left out: not finite", ", ".join(wrong), type(session).__name__)
    return {name: value for name, value in found.items() if name not in wrong}
