"""What a call of a tool and a launch are recognised by: their content, never their position or their time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from .redact import Redactor
from .values import pack, to_json


def call_key(redactor: Redactor, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Key of a call: equal for the call that an agent makes and the one that a trace holds, from which secrets are gone."""
    return digest(redactor, [name, list(args), dict(kwargs)])


def launch_key(redactor: Redactor, goal: str, context: Any, returns: Any, settings: Mapping[str, Any]) -> bytes:
    """Key of a launch: goal, inputs, the type asked for, and the settings of the child."""
    return digest(redactor, ["", goal, context, returns, dict(settings)])


def digest(redactor: Redactor, value: Any) -> bytes:
    """Key of a value: equal for equal values, whatever process or run they are from."""
    return hashlib.blake2b(to_json(pack(value, redactor.text, redactor.data)), digest_size=16).digest()
