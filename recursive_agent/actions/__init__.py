"""From a model's answer to the code to run."""

from .parsing import Action, parse_action
from .python_calls import PYTHON_TOOL

__all__ = ["PYTHON_TOOL", "Action", "parse_action"]
